"""Trains a keyword spotter and writes it, with clips to calibrate its quantization and a few test clips for the firmware.

python make_model.py FOLDER      ->  kws_float.onnx  calibration.npz  clips.h  clips.c
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: threads would wait for each other

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from train import Network, new_network, train
from words import BANDS, FRAMES, WORDS, make_clips

TEST_CLIPS = 40
CALIBRATION_CLIPS = 100


def as_onnx(network: Network) -> onnx.ModelProto:
    """The network as an ONNX model."""
    nodes, constants, data = [], [], "features"

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    def add(op: str, inputs: list[str], name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    for k, layer in enumerate(network.convolutions):
        operands = [data, constant(f"weights{k}", layer.weights), constant(f"bias{k}", layer.bias)]
        group = len(layer.weights) if layer.depthwise else 1
        summed = add("Conv", operands, f"conv{k}", strides=[layer.stride] * 2, pads=list(layer.pads), group=group)
        data = add("Relu", [summed], f"relu{k}")
    means = add("Flatten", [add("GlobalAveragePool", [data], "pool")], "means")
    add("Gemm", [means, constant("head", network.head), constant("head_bias", network.head_bias)], "scores")
    face = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1, FRAMES, BANDS])]
    scores = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(WORDS)])]
    graph = helper.make_graph(nodes, "kws", face, scores, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, producer_name="keyword_spotting")
    onnx.checker.check_model(model, full_check=True)
    return model


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
    onnx.save(as_onnx(network), folder / "kws_float.onnx")
    np.savez(folder / "calibration.npz", features=clips[:CALIBRATION_CLIPS])
    write_clips(folder, test[:TEST_CLIPS], spoken[:TEST_CLIPS])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
