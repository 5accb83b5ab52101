"""The most stack that a call can take: the longest path through the calls that gcc writes down with `-fcallgraph-info=su`.

Generated code has neither recursion nor function pointers, so the longest path is a bound. Functions of the C library are not
among those that gcc sees; the caller names them beside the bound.
"""

from __future__ import annotations

import re

_NODE = re.compile(r'^node: \{ title: "([^"]*)" label: "[^"]*?(\d+) bytes \((static|dynamic,bounded)\)', re.M)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"', re.M)


def stack_bound(calls: str, entry: str) -> int | None:
    """Bytes of stack that `entry` and all it calls take at most; None if there is no bound.

    Args:
        calls: the contents of the `.ci` files.
        entry: name of a global function.
    """
    frames = {title: int(size) for title, size, _ in _NODE.findall(calls)}
    called: dict[str, set[str]] = {}
    for source, target in _EDGE.findall(calls):
        called.setdefault(source, set()).add(target)
    if entry not in frames or "__indirect_call" in {target for targets in called.values() for target in targets}:
        return None
    depths: dict[str, int | None] = {}

    def depth(title: str) -> int | None:
        if title not in depths:
            depths[title] = None  # met again while it is computed: a circle has no bound
            below = [depth(target) for target in sorted(called.get(title, ()))]
            depths[title] = None if None in below else frames.get(title, 0) + max((b for b in below if b is not None), default=0)
        return depths[title]

    return depth(entry)
