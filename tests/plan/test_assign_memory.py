"""Places in the arena: what lives at the same time does not overlap, and loops keep what they need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.nodes import Var
from onnxc.compiler.program.nodes import Branch, Copy, Place, ReadSymbol, Repeat, Step, Storage
from onnxc.passes.plan.assign_memory import ALIGN, Life, align_up, find_lives, place_symbolic
from onnxc.passes.plan.place_lives import Span, largest_sum, place_in_order, place_lives

INPUT = Storage(Place.INPUT)


def write(number: int) -> Step:
    return Copy(Storage(Place.ARENA, number), INPUT, 8)


def read(number: int) -> Step:
    return ReadSymbol(Var("s"), Storage(Place.ARENA, number), 0, DType.INT64)


def spans(steps: tuple[Step, ...], count: int) -> list[tuple[int, int]]:
    return [(life.first, life.last) for life in find_lives(steps, [8] * count)]


def test_lives_go_from_first_to_last_use():
    assert spans((write(0), write(1), read(0), read(1)), 2) == [(1, 3), (2, 4)]


def test_branches_come_one_after_the_other():
    steps = (Branch(Var("c"), (write(0), read(0)), (write(1), read(1))),)
    assert spans(steps, 2) == [(2, 3), (4, 5)]


def test_what_a_loop_uses_from_outside_lives_until_it_ends():
    body = (read(0), write(1), read(1), write(2))
    (outside, inside, result) = spans((write(0), Repeat(Var("c"), body), read(2)), 3)
    assert outside == (1, 6)
    assert inside == (4, 5)
    assert result == (2, 7)


def test_an_inner_loop_keeps_what_the_outer_one_brings():
    inner = Repeat(Var("d"), (read(0), write(1)))
    (outside, own) = spans((write(0), Repeat(Var("c"), (inner, read(1), write(2), read(2)))), 3)[:2]
    assert outside == (1, 8)
    assert own == (3, 6)


LIVES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10), st.integers(1, 2000)), min_size=1, max_size=25)


def known(spans) -> list[Span]:
    return [Span(k, first, first + length, align_up(size)) for k, (first, length, size) in enumerate(spans)]


@given(LIVES)
def test_places_of_known_size_do_not_overlap(spans):
    lives = known(spans)
    offsets, end = place_lives(lives)
    _check_apart([(life, offsets[life.number], life.bytes) for life in lives])
    assert largest_sum(lives) <= end <= sum(life.bytes for life in lives)
    assert end == max(offsets[life.number] + life.bytes for life in lives)


@given(LIVES)
def test_no_plan_is_worse_than_that_of_largest_first(spans):
    lives = known(spans)
    _, end = place_in_order(sorted(lives, key=lambda s: (-s.bytes, s.first, s.number)))
    assert place_lives(lives)[1] <= end


def test_orders_other_than_by_size_are_found():
    """Largest first puts the three largest so that no gap is left for the last, which lives with two of them."""
    lives = [Span(0, 0, 2, 5), Span(1, 0, 1, 6), Span(2, 4, 7, 5), Span(3, 2, 4, 2)]
    assert place_in_order(sorted(lives, key=lambda s: -s.bytes))[1] == 13
    assert place_lives(lives)[1] == largest_sum(lives) == 11


STEPS = st.lists(st.tuples(st.integers(1, 300), st.integers(-50, 400), st.integers(0, 3)), min_size=2, max_size=15)


@given(STEPS)
def test_an_output_lies_in_its_input_at_the_lead_or_apart(chain):
    """Each tensor is made of the one before, in one step; some live on, so that nothing may lie in them."""
    lives = [Span(k, k, k + 1 + longer, align_up(size, 8)) for k, (size, _, longer) in enumerate(chain)]
    leads = {(k + 1, k): -(-lead // 8) * 8 for k, (_, lead, _) in enumerate(chain[:-1]) if lives[k].last == k + 1}
    offsets, end = place_lives(lives, leads)
    for a in lives:
        for b in lives[: a.number]:
            begin, other = offsets[a.number], offsets[b.number]
            apart = begin + a.bytes <= other or other + b.bytes <= begin
            in_place = (a.number, b.number) in leads and other - begin >= leads[a.number, b.number]
            assert apart or in_place or a.first > b.last
    assert largest_sum(lives, leads) <= end <= place_lives(lives)[1]
    assert largest_sum(lives, leads) <= largest_sum(lives)


def test_a_chain_becomes_a_staircase():
    lives = [Span(k, k, k + 1, 100) for k in range(4)]
    assert place_lives(lives)[1] == 200
    assert place_lives(lives, {(k + 1, k): 10 for k in range(3)}) == ({0: 30, 1: 20, 2: 10, 3: 0}, 130)


@given(LIVES, st.integers(0, 50))
def test_places_of_symbolic_size_do_not_overlap(spans, n):
    symbol = Var("n")
    lives = [Life(k, first, first + length, align_up(build.mul(symbol, size % 40 + 1))) for k, (first, length, size) in enumerate(spans)]
    offsets = {}
    end = place_symbolic(lives, offsets, 128)
    value = {"n": n}
    places = [(life, _value(offsets[life.number], value), _value(life.bytes, value)) for life in lives]
    _check_apart(places)
    assert all(at >= 128 and at + size <= _value(end, value) for _, at, size in places)


def _value(extent, symbols: dict[str, int]) -> int:
    from onnxc.compiler.program.interface import evaluate_dim

    return evaluate_dim(extent, symbols)


def _check_apart(places) -> None:
    for k, (a, at, size) in enumerate(places):
        assert at % ALIGN == 0
        for b, other, length in places[:k]:
            if a.first <= b.last and b.first <= a.last:
                assert at + size <= other or other + length <= at


@pytest.mark.parametrize(("size", "aligned"), [(0, 64), (1, 64), (64, 64), (65, 128)])
def test_every_place_is_aligned_and_not_empty(size, aligned):
    assert align_up(size) == aligned
    assert align_up(size, 8) == max(8, -(-size // 8) * 8)
