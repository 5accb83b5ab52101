"""Strings as compiled code holds them: a tensor of spans and one text.

The text is all bytes of a tensor's strings (UTF-8, each with a zero byte before and behind it); the span of a string is one int64,
the place of its first byte times 2^32 plus the number of its bytes. So an element of a tensor of strings is a number, and what moves
elements moves spans; the span 0 is an empty string in every text. Both halves are plain tensors, in the model's arguments too.
"""

from __future__ import annotations

import numpy as np

from .diagnostics import CompileError

SPAN_BITS = 32
"""Where the place of the first byte begins in a span; below is the number of bytes."""
MAX_TEXT_BYTES = 1 << 31


def to_bytes(text: str | bytes) -> bytes:
    """A string as it stands in a text; what was no UTF-8 in a model file is restored."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which numpy and Python keep
        return text.encode("utf-8", "surrogatepass")


def encode_strings(strings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return spans (of the same shape) and text of an array of strings.

    Args:
        strings: array of `str` or `bytes` objects, or of one of numpy's types for strings.

    Raises:
        CompileError: E0401 for an element that is no string, or for more text than spans can tell.
    """
    elements = strings.reshape(-1).tolist()
    try:
        parts = [element.encode() if type(element) is str and element.isascii() else to_bytes(element) for element in elements]
    except AttributeError:
        wrong = next(element for element in elements if not isinstance(element, str | bytes))
        raise CompileError("E0401", f"{wrong!r} is no string") from None
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    ends = np.cumsum(sizes + 1) + 1
    if len(ends) and ends[-1] >= MAX_TEXT_BYTES:
        raise CompileError("E0401", f"the strings have {ends[-1]} bytes together, a tensor holds fewer than {MAX_TEXT_BYTES}")
    text = np.frombuffer(b"\0".join((b"", *parts, b"")), np.uint8)
    return ((ends - sizes - 1) << SPAN_BITS | sizes).reshape(strings.shape), text


def decode_strings(spans: np.ndarray, text: bytes) -> np.ndarray:
    """The strings of spans, as an array of `str` objects; bytes that are no UTF-8 become surrogates."""
    known: dict[int, str] = {}
    strings = np.empty(spans.size, object)
    for k, span in enumerate(spans.reshape(-1).tolist()):
        found = known.get(span)
        if found is None:
            first, size = span >> SPAN_BITS, span & ((1 << SPAN_BITS) - 1)
            found = known[span] = text[first : first + size].decode("utf-8", "surrogateescape")
        strings[k] = found
    return strings.reshape(spans.shape)
