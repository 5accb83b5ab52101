"""Runs a pipeline of passes over one IR, with instruments around each pass.

A pass is a pure function; its name and its line of documentation come from the function. Instruments
see the IR after each pass: they take the time, verify, or show the text (`pipeline.py`).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

from .diagnostics import CompileError

Ir = TypeVar("Ir")
Seen = TypeVar("Seen", contravariant=True)


@dataclass(frozen=True, slots=True)
class Pass(Generic[Ir]):
    """One step of a pipeline."""

    run: Callable[[Ir], Ir]
    """The function, or a `partial` of it that fixes options; it changes nothing that it is given."""

    @property
    def name(self) -> str:
        """Name of the function, and of the pass in dumps and on the command line."""
        run = self.run.func if isinstance(self.run, partial) else self.run
        return run.__name__

    @property
    def doc(self) -> str:
        """First line of the function's documentation."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]


class Instrument(Protocol[Seen]):
    """Something that looks at the IR between passes."""

    def after(self, name: str, ir: Seen, seconds: float) -> None:
        """Called with the IR that pass `name` made in `seconds`."""


class PassFailure(Exception):
    """A pass, or the check after it, failed: a fault of the compiler, with what is needed to see it again."""

    def __init__(self, name: str, ir: object, cause: Exception) -> None:
        self.name = name
        self.ir = ir
        """The IR before the pass."""
        super().__init__(f"pass {name} failed: {type(cause).__name__}: {cause}")


def run_passes(ir: Ir, passes: Iterable[Pass[Ir]], instruments: Sequence[Instrument[Ir]] = (), stop_after: str = "") -> Ir:
    """Run passes in order.

    Args:
        ir: what to start with.
        passes: the pipeline.
        instruments: what looks at the result of each pass.
        stop_after: name of the pass after whose first run to stop; empty for none.

    Returns:
        The IR after the last pass.

    Raises:
        PassFailure: a pass or an instrument raised something that is not the user's fault.
    """
    for step in passes:
        before, start = ir, time.perf_counter()
        try:
            ir = step.run(ir)
            seconds = time.perf_counter() - start
            for instrument in instruments:
                instrument.after(step.name, ir, seconds)
        except (CompileError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise PassFailure(step.name, before, error) from error
        if step.name == stop_after:
            break
    return ir


@dataclass(slots=True)
class Timing(Generic[Ir]):
    """Adds up the time of each pass."""

    seconds: dict[str, float] = field(default_factory=dict)

    def after(self, name: str, ir: Ir, seconds: float) -> None:
        """See `Instrument`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Verify(Generic[Ir]):
    """Checks the invariants of the IR; `check` gets the name of the pass to blame."""

    check: Callable[[Ir, str], None]

    def after(self, name: str, ir: Ir, seconds: float) -> None:
        """See `Instrument`."""
        self.check(ir, name)
