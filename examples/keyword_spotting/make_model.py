"""Trains a keyword spotter, quantizes it to 8 bits, and writes it with a few test clips for the firmware.

    python make_model.py FOLDER      ->  kws.onnx  clips.h  clips.c

The quantization is plain: the least and the greatest value of each activation on the training clips give its scale, each
output channel of the weights has a scale of its own. The model takes and gives 8 bit codes; the header that onnxc writes for
it has the scales.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: threads would wait for each other

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from train import Conv, Network, new_network, train
from words import BANDS, FRAMES, WORDS, make_clips

TEST_CLIPS = 40


class QuantizedGraph:
    """An ONNX graph under construction, in which every tensor passes through 8 bit codes."""

    def __init__(self, biases: dict[str, np.ndarray]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.scales: dict[str, np.float32] = {}
        self.biases = biases

    def add(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Append a node with one output of this name."""
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def parameters(self, name: str, values: np.ndarray) -> list[str]:
        """Scale and zero point for values of this range; zero has a code of its own."""
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        scale = np.float32((high - low) / 255)
        self.scales[name] = scale
        return [
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero_point", np.int8(np.clip(round(-128 - low / scale), -128, 127))),
        ]

    def real(self, codes: str, parameters: list[str]) -> str:
        """What codes stand for."""
        return self.add("DequantizeLinear", [codes, *parameters], f"{codes}_real")

    def codes(self, name: str, made: str, values: np.ndarray) -> tuple[str, list[str]]:
        """The codes of a tensor that has these values on the training clips, and their parameters."""
        parameters = self.parameters(name, values)
        return self.add("QuantizeLinear", [made, *parameters], name), parameters

    def weights(self, name: str, array: np.ndarray, axis: int, data: str) -> list[str]:
        """Weights with a scale for each output channel, and the scales of the products with `data`."""
        others = tuple(k for k in range(array.ndim) if k != axis)
        scale = (np.abs(array).max(axis=others) / 127).astype(np.float32)
        shape = [-1 if k == axis else 1 for k in range(array.ndim)]
        codes = np.clip(np.rint(array / scale.reshape(shape)), -127, 127).astype(np.int8)
        names = [
            self.constant(name, codes),
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero_point", np.zeros(len(scale), np.int8)),
        ]
        self.add("DequantizeLinear", names, f"{name}_real", axis=axis)
        return [f"{name}_real", *self.bias(f"{name}_bias", scale * self.scales[data])]

    def bias(self, name: str, scale: np.ndarray) -> list[str]:
        """A bias, in units of the products."""
        array = self.biases[name]
        names = [self.constant(name, np.rint(array / scale).astype(np.int32)), self.constant(f"{name}_scale", scale)]
        return [self.add("DequantizeLinear", names, f"{name}_real", axis=0)]


def quantized(network: Network, clips: np.ndarray) -> onnx.ModelProto:
    """The network as an ONNX model on 8 bit codes."""
    biases = {f"w{k}_bias": layer.bias for k, layer in enumerate(network.convolutions)} | {"head_bias": network.head_bias}
    graph, values = QuantizedGraph(biases), network.activations(clips)
    data, parameters = "features", graph.parameters("features", clips)
    for k, layer in enumerate(network.convolutions):
        real = graph.real(data, parameters)
        operands = [real, *graph.weights(f"w{k}", layer.weights, 0, data)]
        summed = graph.add("Conv", operands, f"conv{k}", **_attributes(layer))
        data, parameters = graph.codes(f"relu{k}", graph.add("Relu", [summed], f"relu{k}_real_out"), values[k])
    mean = graph.add("GlobalAveragePool", [graph.real(data, parameters)], "mean_out")
    data, parameters = graph.codes("mean", mean, values[-2])
    flat = graph.add("Flatten", [graph.real(data, parameters)], "flat")
    scored = graph.add("Gemm", [flat, *graph.weights("head", network.head, 1, data)], "head_out")
    scores, _ = graph.codes("scores", scored, values[-1])
    face = [helper.make_tensor_value_info("features", TensorProto.INT8, [1, 1, FRAMES, BANDS])]
    faces = [helper.make_tensor_value_info(scores, TensorProto.INT8, [1, len(WORDS)])]
    made = helper.make_graph(graph.nodes, "kws", face, faces, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, producer_name="keyword_spotting")
    onnx.checker.check_model(model, full_check=True)
    return model


def _attributes(layer: Conv) -> dict[str, object]:
    group = len(layer.weights) if layer.depthwise else 1
    return {"strides": [layer.stride] * 2, "pads": list(layer.pads), "group": group}


def write_clips(folder: Path, clips: np.ndarray, labels: np.ndarray) -> None:
    """The test clips and the words as C."""
    size = FRAMES * BANDS
    (folder / "clips.h").write_text(
        "/* Test clips: written by make_model.py. */\n#ifndef CLIPS_H\n#define CLIPS_H\n\n"
        f"#define CLIPS {len(clips)}\n#define WORDS {len(WORDS)}\n\n"
        f"extern const float clips[CLIPS][{size}];\nextern const unsigned char clip_words[CLIPS];\n"
        "extern const char *const words[WORDS];\n\n#endif\n"
    )
    rows = ",\n".join("    {" + ", ".join(f"{x:.4f}f" for x in clip.reshape(-1)) + "}" for clip in clips)
    names = ", ".join(f'"{word}"' for word in WORDS)
    (folder / "clips.c").write_text(
        f'#include "clips.h"\n\nconst float clips[CLIPS][{size}] = {{\n{rows}\n}};\n\n'
        f"const unsigned char clip_words[CLIPS] = {{{', '.join(map(str, labels))}}};\n\nconst char *const words[WORDS] = {{{names}}};\n"
    )


def main(folder: Path) -> None:
    """Write everything to a folder."""
    clips, labels = make_clips(800, seed=1)
    network = new_network(len(WORDS))
    train(network, clips, labels)
    test, spoken = make_clips(400, seed=2)
    print(f"accuracy in float32: {(network.activations(test)[-1].argmax(axis=1) == spoken).mean():.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(quantized(network, clips), folder / "kws.onnx")
    write_clips(folder, test[:TEST_CLIPS], spoken[:TEST_CLIPS])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
