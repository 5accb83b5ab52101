"""Nodes whose operands or attributes do not fit the operator: an error of the model, told at the node, never a fault of the compiler."""

from __future__ import annotations

import pytest

from .models import from_text
from .test_models import refusal

# fmt: off
REFUSED: dict[str, tuple[str, str]] = {
    "Resize: scales of rank 2": ("E0203", "(float[2,2] x) => (float[a,b] y) { y = Resize(x, , x) }"),
    "Resize: two scales for one axis": ("E0203", "(float[2] x, float[2] s) => (float[a] y) { y = Resize(x, , s) }"),
    "Resize: one size": ("E0203", "(float[2,2] x, int64[1] s) => (float[a,b] y) { y = Resize(x, , , s) }"),
    "Slice: more axes than starts": ("E0203", "(float[8] x, int64[1] s, int64[2] a) => (float[b] y) { y = Slice(x, s, s, a) }"),
    "Slice: fewer ends than starts": ("E0203", "(float[8] x, int64[1] s, int64[2] a) => (float[b] y) { y = Slice(x, a, s) }"),
    "Pad: pads for one axis of two": ("E0203", "(float[8,8] x, int64[2] p) => (float[b,c] y) { y = Pad(x, p) }"),
    "CenterCropPad: extents for other axes": ("E0203", "(float[8,8] x, int64[1] s) => (float[b,c] y) { y = CenterCropPad(x, s) }"),
    "Split: a scalar": ("E0203", "(float x) => (float y) { y, z = Split(x) }"),
    "Split: fewer parts than outputs": ("E0203", "(float[8] x) => (float[a] y) { y, z = Split<num_outputs = 1>(x) }"),
    "Squeeze: a scalar": ("E0203", "(float x) => (float y) { a = Constant<value_ints = [0]>() y = Squeeze(x, a) }"),
    "Range: no start": ("E0203", "(int64[0] x, int64 n) => (int64[a] y) { y = Range(x, n, n) }"),
    "ConstantOfShape: a negative extent": ("E0203", "() => (float[a] y) { s = Constant<value_ints = [-3]>() y = ConstantOfShape(s) }"),
    "ConstantOfShape: no value": ("E0203", "(int64[1] x) => (float[a] y) { y = ConstantOfShape<value = float[0] {}>(x) }"),
    "EyeLike: a vector": ("E0203", "(float[3] x) => (float[3] y) { y = EyeLike(x) }"),
    "ConvTranspose: one extent for two axes": (
        "E0203", "(float[1,1,4,4] x, float[1,1,3,3] w) => (float[1,1,a,b] y) { y = ConvTranspose<output_shape = [8]>(x, w) }"),
    "ConvTranspose: one padding for two axes": (
        "E0203", "(float[1,1,4,4] x, float[1,1,3,3] w) => (float[1,1,a,b] y) { y = ConvTranspose<output_padding = [1]>(x, w) }"),
    "RNN: rank 2": ("E0203", "(float[4,2] x, float[1,3,2] w, float[1,3,3] r) => (float[a,b,c,d] y) { y = RNN<hidden_size = 3>(x, w, r) }"),
    "Attention: rank 4": (
        "E0203", "(float[1,2,3,4] x, float[4,12] w) => (float[a,b,c] y) { y = com.microsoft.Attention<num_heads = 2>(x, w) }"),
    "GatherElements: indices of another rank": ("E0203", "(float[4] x, int64[2,2] i) => (float[a,b] y) { y = GatherElements(x, i) }"),
    "SequenceMap: a body without outputs": ("E0106",
        "(seq(float[2]) x) => (seq(float[2]) y) { y = SequenceMap<body = b (float[2] a) => () { c = Abs(a) }>(x) }"),
    "SequenceEmpty: an unknown type": ("E0202", "() => (int64 y) { s = SequenceEmpty<dtype = 99>() y = SequenceLength(s) }"),
    "If: two inputs": ("E0205", (
        "(float[1] x) => (float[1] y) { c = Constant<value = bool {1}>() y = If(c, x) <"
        "then_branch = t () => (float[1] a) { a = Abs(x) }, else_branch = e () => (float[1] b) { b = Neg(x) }> }")),
    "Scan: more outputs than its body": ("E0205",
        "(float[4,2] x) => (float[4,2] y) { y, z = Scan<num_scan_inputs = 1, body = t (float[2] a) => (float[2] b) { b = Abs(a) }>(x) }"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_operands_that_do_not_fit_are_refused(name: str) -> None:
    code, text = REFUSED[name]
    error = refusal(from_text(f"g {text}"))
    assert error.code == code
    assert name.partition(":")[0] in str(error)
