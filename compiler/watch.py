"""Looks into a compile: what `--dump DIR` and `ONNXC_DEBUG` show of its stages.

Passes and drivers call `show` with a stage that has just been made; nothing happens, and no text is made, unless
somebody watches. The watcher stands in a context variable, so that no function has to hand it on.

`ONNXC_DEBUG` is a ladder, each step with those below it: 1 time of each pass, 2 the graph after each pass, 3 groups,
schedules and the program, 4 kernels before and after their passes, 5 the text for the target. It goes to stderr. Graphs and kernels
that are shown are verified, too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from .files import write_file

_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]")
TIMES, GRAPHS, GROUPS, KERNELS, TARGET = 1, 2, 3, 4, 5
"""Levels of the ladder."""


@dataclass(slots=True)
class Watch:
    """Somebody who looks at the stages of one compile."""

    level: int = 0
    """Stages up to this level are printed."""
    folder: Path | None = None
    """Where all stages are written, one numbered file each."""
    count: int = 0

    @property
    def sees_stages(self) -> bool:
        """True if the stages must be gone through, rather than taken from the cache."""
        return self.level >= GRAPHS or self.folder is not None

    def take(self, level: int, file: str, text: Callable[[], str]) -> None:
        """Print or write one stage."""
        if level > self.level and self.folder is None:
            return
        found = text()
        if level <= self.level:
            print(f"--- {file}\n{found.rstrip()}\n", file=sys.stderr)
        if self.folder is not None:
            self.count += 1
            write_file(self.folder / f"{self.count:03d}-{_UNUSUAL.sub('_', file)[-80:]}", found)


_CURRENT: ContextVar[Watch | None] = ContextVar("onnxc_watch", default=None)


def show(level: int, file: str, text: Callable[[], str]) -> None:
    """Show a stage to whoever watches.

    Args:
        level: step of the ladder at which it is printed.
        file: name with a suffix that says which IR it is, such as `simplify.graph`.
        text: makes the text; called only if somebody wants it.
    """
    watch = _CURRENT.get()
    if watch is not None:
        watch.take(level, file, text)


def is_wanted(level: int) -> bool:
    """True if somebody watches stages of this level, so that it is worth to go through them."""
    watch = _CURRENT.get()
    return watch is not None and (level <= watch.level or watch.folder is not None)


def show_times(seconds: Mapping[str, float]) -> None:
    """Show what took how long."""
    rows = [*seconds.items(), ("all", sum(seconds.values()))]
    show(TIMES, "times.txt", lambda: "".join(f"{1e3 * value:10.3f} ms  {name}\n" for name, value in rows))


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Let somebody watch what happens in the block."""
    token = _CURRENT.set(watch)
    try:
        yield watch
    finally:
        _CURRENT.reset(token)


def environment_watch(folder: Path | None = None) -> Watch:
    """The watch that `ONNXC_DEBUG` asks for."""
    text = os.environ.get("ONNXC_DEBUG", "")
    return Watch(int(text) if text.isdigit() else 0, folder)
