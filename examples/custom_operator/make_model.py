"""Writes a model that uses the operators of `operators.py`."""

import sys

import onnx
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 21, "acme" : 1]>
smooth (float[n, 8] x) => (float[n, 8] y) {
    a = acme.Median3(x)
    b = acme.Wave<gain = 0.5>(a)
    y = Relu(b)
}"""

if __name__ == "__main__":
    onnx.save(parser.parse_model(MODEL), sys.argv[1] if len(sys.argv) > 1 else "model.onnx")
