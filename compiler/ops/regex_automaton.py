"""Regular expressions as automata over the bytes of UTF-8: one state at a time, one step for each byte.

Trees become a nondeterministic automaton (Thompson's construction), this a deterministic one (sets of states), which is made as small
as it can be (Moore's partition). Assertions look at the byte before, which is part of a state, and at the one that comes next, which is
known when a step is taken; whether a state accepts depends on what comes next for the same reason.
K. Thompson, "Regular expression search algorithm", 1968; R. Cox, "Regular expression matching in the wild", 2010.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from .regex_syntax import Assertion, Chars, Choice, Regex, RegexError, Repeat, Sequence, parse_regex

MAX_NODES, MAX_STATES = 50_000, 4096
WORD, OTHER, NEWLINE, END = range(4)
"""What comes next: a letter, digit or underscore of ASCII, another byte, a newline, or nothing."""
BEGIN = END
"""What came before the first byte."""
DEAD, START = 0, 1
"""States of every automaton: the one that nothing leads out of, and the first one."""


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """A deterministic automaton."""

    classes: np.ndarray
    """`[256]` uint8: the class of each byte; bytes of a class lead to the same states."""
    steps: np.ndarray
    """`[states, classes]` int16: the next state."""
    accepts: np.ndarray
    """`[states, 4]` bool: whether a text may end in a state before what comes next."""

    def matches(self, text: bytes) -> bool:
        """True if the whole text matches."""
        state = START
        for byte in text:
            state = int(self.steps[state, self.classes[byte]])
        return bool(self.accepts[state, END])


@cache
def compile_regex(pattern: str) -> Automaton:
    """The automaton of an expression.

    Raises:
        RegexError: if the expression is malformed, or its automaton too large.
    """
    return _determined(_Nodes.of(parse_regex(pattern)))


# --- Nondeterministic -------------------------------------------------------------------------


@dataclass(slots=True)
class _Nodes:
    """A nondeterministic automaton; node 0 is the first, node 1 the last."""

    empty: list[list[tuple[str, int]]] = field(default_factory=lambda: [[], []])
    """Edges without a byte: the assertion that must hold, if any, and where they lead."""
    bytes: list[list[tuple[int, int, int]]] = field(default_factory=lambda: [[], []])
    """Edges for a range of bytes."""

    @classmethod
    def of(cls, regex: Regex) -> _Nodes:
        nodes = cls()
        nodes.add(regex, 0, 1)
        return nodes

    def new(self) -> int:
        if len(self.empty) >= MAX_NODES:
            raise RegexError("the regular expression is too large")
        self.empty.append([])
        self.bytes.append([])
        return len(self.empty) - 1

    def add(self, regex: Regex, start: int, end: int) -> None:
        """Ways from one node to another that match an expression."""
        match regex:
            case Chars(ranges=ranges):
                self._chars(ranges, start, end)
            case Sequence(parts=parts):
                for part in parts:
                    middle = self.new()
                    self.add(part, start, middle)
                    start = middle
                self.empty[start].append(("", end))
            case Choice(options=options):
                for option in options:
                    self.add(option, start, end)
            case Repeat(part=part, least=least, most=most):
                self._repeat(part, least, most, start, end)
            case Assertion(kind=kind):
                self.empty[start].append((kind, end))

    def _repeat(self, part: Regex, least: int, most: int | None, start: int, end: int) -> None:
        for _ in range(least):
            middle = self.new()
            self.add(part, start, middle)
            start = middle
        if most is None:
            again = self.new()
            self.empty[start].append(("", again))
            self.add(part, again, again)
            start = again
        for _ in range((most or least) - least):
            middle = self.new()
            self.empty[start].append(("", end))
            self.add(part, start, middle)
            start = middle
        self.empty[start].append(("", end))

    def _chars(self, ranges: tuple[tuple[int, int], ...], start: int, end: int) -> None:
        """Sequences of ranges of bytes; what begins alike shares nodes."""
        known: dict[tuple[tuple[int, int], ...], int] = {(): start}
        for sequence in (s for low, high in ranges for s in byte_ranges(low, high)):
            for i in range(1, len(sequence)):
                if sequence[:i] not in known:
                    known[sequence[:i]] = self.new()
                    self.bytes[known[sequence[: i - 1]]].append((*sequence[i - 1], known[sequence[:i]]))
            self.bytes[known[sequence[:-1]]].append((*sequence[-1], end))


def byte_ranges(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """UTF-8 of a range of code points, as sequences of ranges of bytes. Surrogates have none."""
    for start, stop in ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)):
        if max(low, start) <= min(high, stop):
            yield from _of_one_size(max(low, start), min(high, stop))


def _of_one_size(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    first, last = chr(low).encode(), chr(high).encode()
    for i in range(1, len(first)):
        mask = (1 << 6 * i) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                yield from _of_one_size(low, low | mask)
                yield from _of_one_size((low | mask) + 1, high)
                return
            if high & mask != mask:
                yield from _of_one_size(low, (high & ~mask) - 1)
                yield from _of_one_size(high & ~mask, high)
                return
    yield tuple(zip(first, last, strict=True))


# --- Deterministic ----------------------------------------------------------------------------


def _kind(byte: int) -> int:
    letter = chr(byte)
    return WORD if letter.isascii() and (letter.isalnum() or letter == "_") else NEWLINE if letter == "\n" else OTHER


def _holds(assertion: str, before: int, after: int) -> bool:
    match assertion:
        case "begin":
            return before == BEGIN
        case "end":
            return after == END
        case "line_begin":
            return before in (BEGIN, NEWLINE)
        case "line_end":
            return after in (END, NEWLINE)
        case "word":
            return (before == WORD) != (after == WORD)
        case "no_word":
            return (before == WORD) == (after == WORD)
        case _:
            return True


def _closure(nodes: _Nodes, states: frozenset[int], before: int, after: int) -> set[int]:
    """The nodes that are reached without a byte between what was before and what comes next."""
    found, stack = set(states), list(states)
    while stack:
        for assertion, target in nodes.empty[stack.pop()]:
            if target not in found and _holds(assertion, before, after):
                found.add(target)
                stack.append(target)
    return found


def _byte_classes(nodes: _Nodes, looks_around: bool) -> tuple[np.ndarray, list[int]]:
    """The class of each byte, and one byte of each class."""
    starts = {0} | {edge for edges in nodes.bytes for low, high, _ in edges for edge in (low, high + 1)}
    if looks_around:
        starts |= {byte for byte in range(1, 256) if _kind(byte) != _kind(byte - 1)}
    ordered = sorted(start for start in starts if start < 256)
    return (np.searchsorted(ordered, np.arange(256), side="right") - 1).astype(np.uint8), ordered


def _determined(nodes: _Nodes) -> Automaton:
    looks_around = any(assertion for edges in nodes.empty for assertion, _ in edges)
    classes, examples = _byte_classes(nodes, looks_around)
    dead, start = (frozenset[int](), OTHER), (frozenset([0]), BEGIN if looks_around else OTHER)
    numbers, order, steps = {dead: DEAD, start: START}, [dead, start], []
    for states, before in order:
        closures = {after: _closure(nodes, states, before, after) for after in range(4)}
        row = []
        for byte in examples:
            reached = frozenset(t for s in closures[_kind(byte)] for low, high, t in nodes.bytes[s] if low <= byte <= high)
            target = (reached, _kind(byte) if looks_around and reached else OTHER)
            if target not in numbers:
                if len(order) >= MAX_STATES:
                    raise RegexError("the regular expression needs too many states")
                numbers[target] = len(order)
                order.append(target)
            row.append(numbers[target])
        steps.append((row, [1 in closures[after] for after in range(4)]))
    return _smallest(classes, np.array([row for row, _ in steps]), np.array([accepts for _, accepts in steps]))


def _smallest(classes: np.ndarray, steps: np.ndarray, accepts: np.ndarray) -> Automaton:
    """The same automaton with as few states as possible; the dead state and the first one keep their numbers."""
    _, part = np.unique(accepts, axis=0, return_inverse=True)
    part = part.reshape(-1)
    while True:
        _, finer = np.unique(np.column_stack([part, part[steps]]), axis=0, return_inverse=True)
        finer = finer.reshape(-1)
        if finer.max() == part.max():
            break
        part = finer
    first = {int(p): int(k) for k, p in reversed(list(enumerate(part)))}
    if part[DEAD] == part[START]:  # nothing matches
        kept = [DEAD, START]
    else:
        others = [k for p, k in sorted(first.items()) if p not in (part[DEAD], part[START])]
        kept = [DEAD, START, *others]
    number = {int(part[k]): i for i, k in reversed(list(enumerate(kept)))}
    renamed = np.array([number[int(p)] for p in part])
    return Automaton(classes, renamed[steps[kept]].astype(np.int16), accepts[kept])
