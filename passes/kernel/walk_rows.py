"""Simulate a chain of stages that runs row by row: which rows are computed when, and how many must be kept.

    for rows of the last stage (the root)
      ask each stage that it reads for the rows of its window, which ask in turn
      compute the row

A row is computed once, when it is first asked for. A tensor between two stages needs memory for the rows that are still to
be read only. Where several stages read one tensor, one of them asks (the puller) and the others must find the rows that
they need; that is tried out, with all extents known. The order is that of a depth-first walk against the arrows, as in
patch-based inference (Lin et al., "MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning", 2021), but
nothing is computed twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...compiler.graph.nodes import Value
from ...compiler.program.stages import Stage
from .find_leads import are_aliases
from .row_windows import RowWindow, fold_window, is_folded, row_axis, row_bytes, row_window, rows_of

MAX_CHOICES = 16
"""Ways of asking that are tried."""


@dataclass(frozen=True, slots=True)
class Pull:
    """A stage asks for the rows of a tensor."""

    made: int
    """Number of the stage that makes the tensor."""
    window: RowWindow
    delay: int
    """Rows that are kept beyond those of the window, for other readers."""


@dataclass(frozen=True, slots=True)
class RowWalk:
    """How a chain of stages runs row by row; the last stage is the root."""

    pulls: tuple[tuple[Pull, ...], ...]
    """For each stage what it asks for, in order."""
    kept: tuple[int, ...]
    """For each stage but the root the rows of its tensor that are kept."""
    folds: bool
    """Whether the root takes in rows and has none of its own."""
    leads: Mapping[str, int]
    """For operands from outside by name: how many bytes they must begin above the output for it to be written over them."""
    skips: tuple[bool, ...]
    """For each stage but the root whether some of its rows are never asked for, between others that are."""
    moved_bytes: tuple[int, ...]
    """For each stage but the root the bytes of its rows that are moved to the front of their memory, over the whole run."""


def walk_rows(stages: Sequence[Stage]) -> RowWalk | str:
    """Find out how some stages run row by row, or say why they cannot.

    Args:
        stages: each after those that it reads; nothing else reads what they make, but for the last one's.
    """
    chain = _Chain.of(stages)
    if isinstance(chain, str):
        return chain
    reason = "rows are asked for too late"
    for pullers in itertools.islice(_choices(chain), MAX_CHOICES):
        found = _Run(chain, pullers).walk()
        if not isinstance(found, str):
            return found
        reason = found
    return reason


@dataclass(frozen=True, slots=True)
class _Chain:
    """The windows between the stages."""

    stages: Sequence[Stage]
    inner: tuple[tuple[tuple[int, RowWindow], ...], ...]
    """For each stage the stages whose tensors it reads."""
    outer: tuple[tuple[tuple[Value, RowWindow], ...], ...]
    """For each stage the tensors from outside that it reads by rows."""
    unknown: frozenset[str]
    """Names of tensors from outside that are read in some other way."""
    folds: bool

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> _Chain | str:
        maker = {stage.value.name: k for k, stage in enumerate(stages)}
        root = stages[-1]
        folded = [v for v in root.operands if v.name in maker and is_folded(root, v)]
        folds = bool(folded) and all(v in folded for v in root.operands if v.name in maker)
        inner, outer, unknown = [], [], set()
        for stage in stages:
            if row_axis(stage.value.type) is None and not (folds and stage is root):
                return f"'{stage.value.name}' has no rows"
            mine, others = [], []
            for operand in stage.operands:
                window = fold_window(operand) if folds and stage is root and operand in folded else row_window(stage, operand)
                if operand.name in maker:
                    if window is None:
                        return f"'{stage.value.name}' does not read '{operand.name}' by rows"
                    mine.append((maker[operand.name], window))
                elif window is not None and not (folds and stage is root):
                    others.append((operand, window))
                else:
                    unknown.add(operand.name)
            inner.append(tuple(mine))
            outer.append(tuple(others))
        read = {k for windows in inner for k, _ in windows}
        if len(read) < len(stages) - 1:
            return "more than one stage is read outside"
        return cls(stages, tuple(inner), tuple(outer), frozenset(unknown), folds)


Pullers = tuple[tuple[int, ...], ...]
"""For each stage the positions, among what it reads, of what it asks for, in order."""


def _choices(chain: _Chain) -> Iterator[Pullers]:
    """Each tensor is asked for by one of its readers, early ones first; late stages are asked first."""
    count = len(chain.stages)
    readers = [[k for k in range(count) if any(made == number for made, _ in chain.inner[k])] for number in range(count - 1)]
    for descending in (True, False):
        for chosen in itertools.product(*readers):
            found = []
            for k in range(count):
                mine = [p for p, (made, _) in enumerate(chain.inner[k]) if chosen[made] == k]
                found.append(tuple(sorted(mine, key=lambda p, k=k: chain.inner[k][p][0], reverse=descending)))
            yield tuple(found)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A puller asks for the rows of a window."""

    time: int
    low: int
    """The first row of the window."""
    before: int
    """Rows that have been computed before."""
    after: int


@dataclass(slots=True)
class _Tensor:
    """What happens to the rows of one tensor."""

    have: int = 0
    reads: list[tuple[int, int]] = field(default_factory=list)
    """(time, first row that is read), in order."""
    pulls: list[_Asked] = field(default_factory=list)
    """In order."""

    def delay(self) -> int:
        """Rows by which the window of the puller must be widened, so that no reader finds a row gone."""
        least, delay = 1 << 30, 0
        reads = list(self.reads)
        for asked in reversed(self.pulls):
            while reads and reads[-1][0] > asked.time:
                least = min(least, reads.pop()[1])
            delay = max(delay, asked.low - least)
        return delay

    def kept(self, delay: int) -> int:
        """The most rows that there are at once."""
        return max(asked.after - max(0, asked.low - delay) for asked in self.pulls)

    def skips(self, delay: int) -> bool:
        """True if rows are left out."""
        return any(asked.low - delay > asked.before for asked in self.pulls)

    def moved(self, delay: int) -> int:
        """Rows that are moved because those in front of them are no longer needed."""
        base = rows = 0
        for asked in self.pulls:
            if asked.low - delay > base:
                base = asked.low - delay
                rows += max(0, asked.before - base)
        return rows


class _Run:
    """One way of asking, tried out."""

    def __init__(self, chain: _Chain, pullers: Pullers) -> None:
        self.chain, self.pullers = chain, pullers
        self.tensors = [_Tensor() for _ in chain.stages]
        self.outside: dict[str, list[tuple[int, int]]] = {}
        self.roots: list[int] = []
        """Time of each row of the root."""
        self.time = 0

    def walk(self) -> RowWalk | str:
        """The walk, or why it is not possible."""
        root = len(self.chain.stages) - 1
        rows = len(self.chain.inner[root][0][1].lows) if self.chain.folds else rows_of(self.chain.stages[root].value.type)
        for row in range(rows):
            if not self._row(root, row):
                return "rows are asked for too late"
            self.roots.append(self.time)
        delays = [t.delay() for t in self.tensors[:-1]]
        kept = tuple(t.kept(d) for t, d in zip(self.tensors, delays, strict=False))
        pulls = tuple(
            tuple(Pull(made, window, delays[made]) for made, window in (self.chain.inner[k][p] for p in self.pullers[k]))
            for k in range(root + 1)
        )
        made = list(zip(self.chain.stages, self.tensors, delays, strict=False))
        skips = tuple(t.skips(d) for _, t, d in made)
        return RowWalk(pulls, kept, self.chain.folds, self._leads(), skips, tuple(t.moved(d) * row_bytes(s.value) for s, t, d in made))

    def _row(self, number: int, row: int) -> bool:
        """Compute a row of a stage, and before it all that it asks for; False if it does not find what it reads."""
        for position in self.pullers[number]:
            made, window = self.chain.inner[number][position]
            tensor = self.tensors[made]
            time, before = self.time, tensor.have
            while tensor.have < window.highs[row]:
                if not self._row(made, tensor.have):
                    return False
                tensor.have += 1
            tensor.pulls.append(_Asked(time, window.lows[row], before, tensor.have))
        self.time += 1
        for made, window in self.chain.inner[number]:
            if self.tensors[made].have < window.highs[row]:
                return False
            self.tensors[made].reads.append((self.time, window.lows[row]))
        for value, window in self.chain.outer[number]:
            self.outside.setdefault(value.name, []).append((self.time, window.lows[row]))
        return True

    def _leads(self) -> dict[str, int]:
        """How far the rows of the root end above the first row of an operand that is still to be read."""
        output = self.chain.stages[-1].value
        if self.chain.folds:
            return {}
        size = row_bytes(output)
        found: dict[str, int] = {}
        for windows in self.chain.outer:
            for value, _ in windows:
                if value.name in found or value.name in self.chain.unknown or not are_aliases(value.type.dtype, output.type.dtype):
                    continue
                least, lead, reads = 1 << 30, 0, list(self.outside[value.name])
                for row in reversed(range(len(self.roots))):
                    while reads and reads[-1][0] >= self.roots[row]:
                        least = min(least, reads.pop()[1])
                    if least < 1 << 30:
                        lead = max(lead, (row + 1) * size - least * row_bytes(value))
                found[value.name] = lead
        return found
