"""Where samples are registered: for each operator of the table, what appends a legal node of it to a draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..draft import Draft

Sample = Callable[[Draft, str], None]
SAMPLES: dict[str, tuple[Sample, int]] = {}
"""By key of the operator table: what makes a node (given the operator's name), and how often relative to others."""


def sample(*keys: str, weight: int = 2) -> Callable[[Sample], Sample]:
    """Register a sample for operators, each with this weight."""

    def register(made: Sample) -> Sample:
        for key in keys:
            assert key not in SAMPLES, key
            SAMPLES[key] = (made, weight)
        return made

    return register


def weighted(keys: Iterable[str] | None = None) -> list[str]:
    """Keys, each as often as its weight."""
    return [key for key in (SAMPLES if keys is None else keys) for _ in range(SAMPLES[key][1])]
