"""The strategy that draws models: a few samples, one after another, on a draft."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import reject
from hypothesis import strategies as st

from .draft import Draft, Draw, Misfit, Sample
from .samples import SAMPLES, weighted

OPSETS = (21, 18, 20, 22, 23, 24, 17, 13, 25, 21, 23, 28)
MOST_STEPS = 14


@st.composite
def samples(draw: Draw, keys: Sequence[str] = ()) -> Sample:
    """Models with inputs and expected results.

    Args:
        draw: Hypothesis's own.
        keys: samples to use; all if empty.
    """
    chosen = list(keys) or weighted()
    draft = Draft(draw, draw(st.sampled_from(OPSETS)))
    for step in range(MOST_STEPS):
        if step and draft.chance(14):
            break
        key = draft.choose(chosen)
        try:
            SAMPLES[key][0](draft, key)
        except Misfit:
            continue
    try:
        return draft.finish()
    except Misfit:
        reject()
