"""Reads regular expressions in the syntax of RE2, which ONNX names, into trees.

What RE2 has no way to run in linear time (references to groups, looking around) it has no syntax for, and neither has this. Groups
capture nothing here, and lazy repetition is repetition: only the set of texts that match counts.
https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

MAX_REPEAT = 1000
LAST = 0x10FFFF
Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Code points, as ranges with both ends, in ascending order."""


class RegexError(ValueError):
    """The expression is not RE2's, or asks for what is not supported; the message says what."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One code point of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after another; without parts the empty text."""

    parts: tuple[Regex, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    options: tuple[Regex, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something several times; without a limit if `most` is None."""

    part: Regex
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Assertion:
    """An empty text at certain places: `begin` or `end` of the text or (`line_...`) of a line, at a `word` boundary or at `no_word` one."""

    kind: str


Regex: TypeAlias = Chars | Sequence | Choice | Repeat | Assertion

_CLASSES: dict[str, Ranges] = {
    "d": ((48, 57),), "s": ((9, 10), (12, 13), (32, 32)), "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
}  # fmt: skip
_POSIX: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),), "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)), "digit": ((48, 57),), "graph": ((33, 126),), "lower": ((97, 122),), "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)), "space": ((9, 13), (32, 32)), "upper": ((65, 90),),
    "word": ((48, 57), (65, 90), (95, 95), (97, 122)), "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
_CONTROLS = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_ASSERTIONS = {"A": "begin", "z": "end", "b": "word", "B": "no_word"}


def parse_regex(text: str) -> Regex:
    """Read an expression.

    Raises:
        RegexError: with what is wrong, and where.
    """
    parser = _Parser(text)
    found = parser.choice("")
    if parser.at < len(text):
        raise parser.error("a parenthesis is closed that is not open")
    return found


class _Parser:
    """Recursive descent; `flags` hold i (any case), s (a dot takes newlines), m (lines have begins and ends), U (nothing to us)."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def error(self, message: str) -> RegexError:
        return RegexError(f"{message}, at position {self.at} of the regular expression")

    def peek(self, ahead: str) -> bool:
        return self.text.startswith(ahead, self.at)

    def accept(self, ahead: str) -> bool:
        found = self.peek(ahead)
        self.at += len(ahead) if found else 0
        return found

    def take(self) -> str:
        if self.at >= len(self.text):
            raise self.error("it ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def until(self, end: str) -> str:
        stop = self.text.find(end, self.at)
        if stop < 0:
            raise self.error(f"'{end}' is missing")
        found, self.at = self.text[self.at : stop], stop + len(end)
        return found

    # --- Structure ----------------------------------------------------------------------------

    def choice(self, flags: str) -> Regex:
        """Everything up to the end of the group; flags may change on the way."""
        self.depth += 1
        if self.depth > 200:
            raise self.error("groups are nested too deep")
        options: list[Regex] = []
        parts: list[Regex] = []
        while self.at < len(self.text) and not self.peek(")"):
            if self.accept("|"):
                options.append(Sequence(tuple(parts)))
                parts = []
            elif (changed := self._flags(flags)) is not None:
                flags = changed
            else:
                parts.append(self._repeated(self._atom(flags)))
        self.depth -= 1
        options.append(Sequence(tuple(parts)))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _flags(self, flags: str) -> str | None:
        """The flags after `(?flags)`; None if no such thing is next."""
        start = self.at
        if not self.accept("(?"):
            return None
        found = self._flag_letters(flags)
        if found is None or not self.accept(")"):
            self.at = start
            return None
        return found

    def _flag_letters(self, flags: str) -> str | None:
        """Flags after letters to set, and behind a minus to clear; None if something else stands there."""
        found, clears, start = set(flags), False, self.at
        while self.at < len(self.text) and self.text[self.at] in "imsU-":
            letter = self.take()
            if letter == "-":
                clears = True
            elif clears:
                found.discard(letter)
            else:
                found.add(letter)
        return "".join(sorted(found)) if self.at > start or self.peek(":") else None

    def _group(self, flags: str) -> Regex:
        if self.accept("?P<") or (not self.peek("?<=") and not self.peek("?<!") and self.accept("?<")):
            if not self.until(">").isidentifier():
                raise self.error("the name of a group is malformed")
        elif self.accept("?"):
            found = self._flag_letters(flags)
            if found is None or not self.accept(":"):
                raise self.error("such a group is not supported")
            flags = found
        inner = self.choice(flags)
        if not self.accept(")"):
            raise self.error("a parenthesis is not closed")
        return inner

    def _repeated(self, part: Regex) -> Regex:
        while self.at < len(self.text):
            bounds = self._bounds()
            if bounds is None:
                break
            least, most = bounds
            if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
                raise self.error("the bounds of a repetition are out of range")
            self.accept("?")  # lazy: the same texts match
            part = Repeat(part, least, most)
        return part

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.accept(sign):
                return bounds
        start = self.at
        if self.accept("{"):
            low, comma, high = self.text[self.at : self.text.find("}", self.at)].partition(",")
            if low.isascii() and low.isdigit() and (not high or (high.isascii() and high.isdigit())):
                self.until("}")
                return int(low), int(high) if high else None if comma else int(low)
            self.at = start
        return None

    # --- Atoms --------------------------------------------------------------------------------

    def _atom(self, flags: str) -> Regex:
        if self.peek("{") and self._bounds() is None:
            return self._literal(ord(self.take()), flags)
        letter = self.take()
        match letter:
            case "(":
                return self._group(flags)
            case "[":
                return Chars(self._set(flags))
            case ".":
                return Chars(((0, LAST),) if "s" in flags else ((0, 9), (11, LAST)))
            case "^":
                return Assertion("line_begin" if "m" in flags else "begin")
            case "$":
                return Assertion("line_end" if "m" in flags else "end")
            case "*" | "+" | "?" | "{":
                raise self.error("there is nothing to repeat")
            case "\\":
                return self._escape(flags)
            case _:
                return self._literal(ord(letter), flags)

    def _literal(self, code: int, flags: str) -> Chars:
        return Chars(folded(((code, code),)) if "i" in flags else ((code, code),))

    def _escape(self, flags: str) -> Regex:
        if self.at < len(self.text) and self.text[self.at] in _ASSERTIONS:
            return Assertion(_ASSERTIONS[self.take()])
        if self.accept("Q"):
            stop = self.text.find("\\E", self.at)
            literal = self.text[self.at : stop if stop >= 0 else len(self.text)]
            self.at = stop + 2 if stop >= 0 else len(self.text)
            return Sequence(tuple(self._literal(ord(letter), flags) for letter in literal))
        found = self._escaped()
        return self._literal(found, flags) if isinstance(found, int) else Chars(folded(found) if "i" in flags else found)

    def _escaped(self) -> int | Ranges:
        """What stands behind a backslash, in a set or outside: a code point or a set of them."""
        letter = self.take()
        if letter.lower() in _CLASSES:
            found = _CLASSES[letter.lower()]
            return found if letter.islower() else negated(found)
        if letter in "pP":
            name = self.until("}") if self.accept("{") else self.take()
            wanted = category(name.removeprefix("^"))
            if not wanted:
                raise self.error(f"the class '{name}' is not known")
            return negated(wanted) if (letter == "P") != name.startswith("^") else wanted
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter == "x":
            return self._number(self.until("}") if self.accept("{") else self.take() + self.take(), 16)
        if letter in "01234567":
            digits = letter
            while len(digits) < 3 and self.at < len(self.text) and self.text[self.at] in "01234567":
                digits += self.take()
            if letter == "0" or len(digits) > 1:
                return self._number(digits, 8)
        if letter.isalnum() and letter.isascii():
            raise self.error(f"the escape '\\{letter}' is not supported")
        return ord(letter)

    def _number(self, digits: str, base: int) -> int:
        try:
            code = int(digits, base)
        except ValueError:
            raise self.error("a number is malformed") from None
        if code > LAST:
            raise self.error("there is no such code point")
        return code

    def _set(self, flags: str) -> Ranges:
        is_negated, found, first = self.accept("^"), list[tuple[int, int]](), True
        while first or not self.peek("]"):
            first = False
            low = self._set_item()
            if isinstance(low, int):
                high: int | Ranges = low
                if self.peek("-") and not self.peek("-]"):
                    self.take()
                    high = self._set_item()
                if not isinstance(high, int) or high < low:
                    raise self.error("a range of code points is malformed")
                found.append((low, high))
            else:
                found.extend(low)
        self.take()
        ranges = merged(found)
        ranges = folded(ranges) if "i" in flags else ranges
        return negated(ranges) if is_negated else ranges

    def _set_item(self) -> int | Ranges:
        if self.accept("[:"):
            name = self.until(":]")
            if name.removeprefix("^") not in _POSIX:
                raise self.error(f"the class '{name}' is not known")
            return negated(_POSIX[name[1:]]) if name.startswith("^") else _POSIX[name]
        letter = self.take()
        return self._escaped() if letter == "\\" else ord(letter)


# --- Sets of code points ----------------------------------------------------------------------


def merged(ranges: list[tuple[int, int]]) -> Ranges:
    """Ranges in order, without overlaps."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def negated(ranges: Ranges) -> Ranges:
    """All other code points."""
    starts = [0, *(high + 1 for _, high in ranges)]
    ends = [*(low - 1 for low, _ in ranges), LAST]
    return tuple((low, high) for low, high in zip(starts, ends, strict=True) if low <= high)


def folded(ranges: Ranges) -> Ranges:
    """The set with the other cases of its letters."""
    found = list(ranges)
    for low, high in ranges:
        for code in range(low, min(high, 0x1FFFF) + 1):
            found.extend((ord(c), ord(c)) for c in (chr(code).lower(), chr(code).upper()) if len(c) == 1)
    return merged(found)


@cache
def category(name: str) -> Ranges:
    """Code points of a general category of Unicode, such as `L` or `Nd`; `Any` is all of them."""
    if name == "Any":
        return ((0, LAST),)
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(name))
    return merged([(code, code) for code in codes]) if 1 <= len(name) <= 2 else ()
