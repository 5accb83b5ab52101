"""Index arithmetic: int64 expressions kept as canonical sums.

A sum is a dict from a product of factors (a tuple of non-constant expressions, sorted) to its constant
coefficient; the constant itself stands under the empty product. Its expression has the terms in a fixed
order, the constant last, so equal indices are one object. Divisions are cancelled as far as the bounds that
loop variables carry allow: `(x // 6) * 6 + x % 6` becomes `x`, which undoes a pair of reshapes.
"""

from __future__ import annotations

import functools
import math

from .constants import INDEX, REMEMBERED, const
from .nodes import Binary, BinaryOp, Const, Expr, Var
from .order import order

Terms = dict[tuple[Expr, ...], int]
"""Products of factors and their coefficients."""


@functools.lru_cache(REMEMBERED)
def index_terms(e: Expr) -> Terms:
    """The sum that an index is; not to be changed."""
    if isinstance(e, Const):
        return {(): int(e.value)} if e.value else {}
    if isinstance(e, Binary) and e.dtype is INDEX:
        if e.op is BinaryOp.ADD:
            return sum_terms(index_terms(e.a), index_terms(e.b), 1)
        if e.op is BinaryOp.MUL:
            return product_terms(index_terms(e.a), index_terms(e.b))
    return {(e,): 1}


def sum_terms(a: Terms, b: Terms, sign: int) -> Terms:
    """`a + sign * b`."""
    result = dict(a)
    for term, factor in b.items():
        result[term] = result.get(term, 0) + sign * factor
    return result


def product_terms(a: Terms, b: Terms) -> Terms:
    """`a * b`, multiplied out."""
    result: Terms = {}
    for s, c in a.items():
        for t, d in b.items():
            product = tuple(sorted(s + t, key=order)) if s and t else s or t
            result[product] = result.get(product, 0) + c * d
    return result


def from_terms(terms: Terms) -> Expr:
    """The canonical expression of a sum; the inverse of `index_terms`."""
    terms = _merge_divisions({t: c for t, c in terms.items() if c})
    result: Expr | None = None
    for term in _sorted_terms(terms):
        factor = _product(term, terms[term])
        result = factor if result is None else Binary(BinaryOp.ADD, result, factor, INDEX, 1)
    constant = terms.get((), 0)
    if result is None:
        return const(constant)
    return Binary(BinaryOp.ADD, result, const(constant), INDEX, 1) if constant else result


def _sorted_terms(terms: Terms) -> list[tuple[Expr, ...]]:
    """All but the constant, in a deterministic order."""
    variable = [t for t in terms if t]
    return sorted(variable, key=lambda t: [order(f) for f in t]) if len(variable) > 1 else variable


def _product(factors: tuple[Expr, ...], coefficient: int) -> Expr:
    result = factors[0]
    for factor in factors[1:]:
        result = Binary(BinaryOp.MUL, result, factor, INDEX, 1)
    return result if coefficient == 1 else Binary(BinaryOp.MUL, result, const(coefficient), INDEX, 1)


def _merge_divisions(terms: Terms) -> Terms:
    """`c*d*(x // d) + c*(x mod d) == c*x`, which undoes what a pair of reshapes did."""
    while any(isinstance(e, Binary) and e.op is BinaryOp.FLOORMOD for term in terms for e in term):
        for term, factor in terms.items():
            merged = _merge_one(terms, term, factor)
            if merged is not None:
                terms = merged
                break
        else:
            break
    return terms


def _merge_one(terms: Terms, term: tuple[Expr, ...], factor: int) -> Terms | None:
    for position, e in enumerate(term):
        if not (isinstance(e, Binary) and e.op is BinaryOp.FLOORMOD):
            continue
        quotient = divide_indices(e.a, e.b)
        if not (isinstance(quotient, Binary) and quotient.op is BinaryOp.FLOORDIV):
            continue
        rest = term[:position] + term[position + 1 :]
        whole = product_terms(index_terms(e.b), {tuple(sorted((*rest, quotient), key=order)): factor})
        if all(terms.get(t) == c for t, c in whole.items()):  # all of a divisor that is a sum, such as `n + 1`
            without = {t: c for t, c in terms.items() if t != term and t not in whole}
            joined = product_terms({tuple(sorted(rest, key=order)): factor}, index_terms(e.a))
            return {t: c for t, c in sum_terms(without, joined, 1).items() if c}
    return None


def _split_multiple(a: Expr, divisor: int) -> tuple[Terms, Terms]:
    """Split a sum into the part whose coefficients are multiples of `divisor` and the rest."""
    multiple: Terms = {}
    rest: Terms = {}
    for term, factor in index_terms(a).items():
        if term == ():
            if factor - factor % divisor:
                multiple[term] = factor - factor % divisor
            if factor % divisor:
                rest[term] = factor % divisor
        elif factor % divisor == 0:
            multiple[term] = factor
        else:
            rest[term] = factor
    return multiple, rest


@functools.lru_cache(REMEMBERED)
def _floordiv_const(a: Expr, divisor: int) -> Expr:
    multiple, rest = _split_multiple(a, divisor)
    whole = from_terms({t: c // divisor for t, c in multiple.items()})
    if _is_below(rest, divisor):
        return whole
    if isinstance(a, Binary) and a.op is BinaryOp.FLOORDIV and isinstance(a.b, Const) and a.b.value > 0:
        return _floordiv_const(a.a, divisor * int(a.b.value))
    common = _common_factor(rest, divisor)
    if common > 1:
        coarse = from_terms({t: c // common for t, c in rest.items() if c % common == 0})
        return add_indices(whole, _floordiv_const(coarse, divisor // common))
    remainder = from_terms(rest)
    if isinstance(remainder, Const):
        return add_indices(whole, const(int(remainder.value) // divisor))
    return add_indices(whole, Binary(BinaryOp.FLOORDIV, remainder, const(divisor), INDEX, 1))


@functools.lru_cache(REMEMBERED)
def _floormod_const(a: Expr, divisor: int) -> Expr:
    _, rest = _split_multiple(a, divisor)
    value = from_terms(rest)
    if _is_below(rest, divisor):
        return value
    if isinstance(value, Const):
        return const(int(value.value) % divisor)
    common = _common_factor(rest, divisor)
    if common > 1:
        coarse = from_terms({t: c // common for t, c in rest.items() if c % common == 0})
        fine = from_terms({t: c for t, c in rest.items() if c % common})
        return add_indices(multiply_indices(_floormod_const(coarse, divisor // common), const(common)), fine)
    if isinstance(value, Binary) and value.op is BinaryOp.FLOORMOD and isinstance(value.b, Const) and int(value.b.value) % divisor == 0:
        return _floormod_const(value.a, divisor)
    return Binary(BinaryOp.FLOORMOD, value, const(divisor), INDEX, 1)


def _common_factor(terms: Terms, divisor: int) -> int:
    """A factor g of the divisor such that the sum is `g * coarse + fine` with fine in [0, g); 1 if there is none.

    Then `(g*coarse + fine) // (g*d) == coarse // d` and `(g*coarse + fine) % (g*d) == g*(coarse % d) + fine`.
    """
    for factor in sorted({math.gcd(c, divisor) for t, c in terms.items() if t}, reverse=True):
        fine = {t: c for t, c in terms.items() if c % factor}
        if 1 < factor < divisor and len(fine) < len(terms) and _is_below(fine, factor):
            return factor
    return 1


def _is_below(terms: Terms, bound: int) -> bool:
    """True if the sum is certainly in [0, bound): from the extents of bounded variables."""
    low, high = _range_of_terms(terms)
    return low is not None and high is not None and low >= 0 and high < bound


def _range_of_terms(terms: Terms) -> tuple[int | None, int | None]:
    low, high = 0, 0
    for term, factor in terms.items():
        if term == ():
            low, high = low + factor, high + factor
            continue
        bounds = (1, 1)
        for e in term:
            found = range_of(e)
            if found is None or found[0] < 0:
                return None, None
            bounds = bounds[0] * found[0], bounds[1] * found[1]
        low += min(factor * bounds[0], factor * bounds[1])
        high += max(factor * bounds[0], factor * bounds[1])
    return low, high


@functools.lru_cache(REMEMBERED)
def range_of(e: Expr) -> tuple[int, int] | None:
    """Smallest and largest value of an index, None if unknown; from the bounds that loop variables carry."""
    match e:
        case Const():
            return int(e.value), int(e.value)
        case Var():
            return (0, e.bound - 1) if e.bound else None
        case Binary(op=BinaryOp.ADD | BinaryOp.MUL):
            low, high = _range_of_terms(index_terms(e))
            return None if low is None or high is None else (low, high)
        case Binary(op=BinaryOp.FLOORMOD, b=Const(value=value)) if value > 0:
            return 0, int(value) - 1
        case Binary(op=BinaryOp.FLOORDIV, a=a, b=Const(value=value)) if value > 0:
            found = range_of(a)
            return None if found is None else (found[0] // int(value), found[1] // int(value))
    return None


@functools.lru_cache(REMEMBERED)
def add_indices(a: Expr, b: Expr) -> Expr:
    """`a + b`."""
    if isinstance(b, Const) and not isinstance(a, Const):  # the constant of a sum stands last
        rest: Expr = a
        known = 0
        if isinstance(a, Binary) and a.op is BinaryOp.ADD and isinstance(a.b, Const):
            rest, known = a.a, int(a.b.value)
        total = const(known + int(b.value))
        return Binary(BinaryOp.ADD, rest, total, INDEX, 1) if total.value else rest
    return from_terms(sum_terms(index_terms(a), index_terms(b), 1))


@functools.lru_cache(REMEMBERED)
def multiply_indices(a: Expr, b: Expr) -> Expr:
    """`a * b`, multiplied out."""
    if isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const):
        return from_terms({t: c * int(b.value) for t, c in index_terms(a).items()})
    return from_terms(product_terms(index_terms(a), index_terms(b)))


def _exact_quotient(a: Expr, b: Var) -> Expr | None:
    """`a / b` if every term of `a` has the factor `b`, else None."""
    quotient: Terms = {}
    for term, factor in index_terms(a).items():
        if b not in term:
            return None
        position = term.index(b)
        quotient[term[:position] + term[position + 1 :]] = factor
    return from_terms(quotient)


@functools.lru_cache(REMEMBERED)
def extreme_index(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    """Minimum or maximum of indices in canonical form: distinct operands in order, a constant last.

    Broadcasting takes the same extents again in every layer, so `max(max(n, m), n)` must not grow.
    """
    dual, pick = (BinaryOp.MAX, min) if op is BinaryOp.MIN else (BinaryOp.MIN, max)
    operands = dict.fromkeys((*_operands(op, a), *_operands(op, b)))
    known = [int(e.value) for e in operands if isinstance(e, Const)]
    free = [e for e in operands if not isinstance(e, Const)]
    free = [e for e in free if not any(other is not e and other in operands for other in _operands(dual, e))]  # max(n, min(n, m)) == n
    ordered: list[Expr] = [*sorted(free, key=order), *([const(pick(known))] if known else [])]
    result = ordered[0]
    for e in ordered[1:]:
        result = Binary(op, result, e, INDEX, 1)
    return result


def _operands(op: BinaryOp, e: Expr) -> tuple[Expr, ...]:
    """What an associative operation joins."""
    return (*_operands(op, e.a), *_operands(op, e.b)) if isinstance(e, Binary) and e.op is op else (e,)


def divide_indices(a: Expr, b: Expr) -> Expr:
    """`a // b`; 0 for a zero divisor."""
    if isinstance(b, Const) and b.value == 1:
        return a
    if isinstance(b, Const) and b.value > 0:
        return _floordiv_const(a, int(b.value))
    quotient = _exact_quotient(a, b) if isinstance(b, Var) else None
    if quotient is not None:
        return quotient  # symbols used as divisors are extents; an empty extent has no element to index
    return Binary(BinaryOp.FLOORDIV, a, b, INDEX, 1)


def remainder_of_indices(a: Expr, b: Expr) -> Expr:
    """`a mod b`; 0 for a zero divisor."""
    if isinstance(b, Const) and b.value == 1:
        return const(0)
    if isinstance(b, Const) and b.value > 0:
        return _floormod_const(a, int(b.value))
    if isinstance(b, Var) and _exact_quotient(a, b) is not None:
        return const(0)
    return Binary(BinaryOp.FLOORMOD, a, b, INDEX, 1)
