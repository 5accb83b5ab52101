"""The vision models that come with the onnx package: full architectures whose weights are made by ConstantOfShape.

They need no download: ResNet-50, DenseNet-121, VGG-19 and others in a few kilobytes each, with an official input (a ramp from
0 to 1) and the output for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test


def light_models() -> dict[str, Path]:
    """Return the models by name, such as `resnet50`."""
    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    return {path.stem.removeprefix("light_"): path for path in sorted(folder.glob("light_*.onnx"))}


def official_case(path: Path) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Return the official inputs by name, and the outputs for them in order."""
    graph = onnx.load(path).graph
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: _ramp(value) for value in graph.input if value.name not in initializers}
    outputs = [onnx.load_tensor(str(path.with_name(f"{path.stem}_output_{i}.pb"))) for i in range(len(graph.output))]
    return inputs, [onnx.numpy_helper.to_array(tensor) for tensor in outputs]


def _ramp(value: onnx.ValueInfoProto) -> np.ndarray:
    shape = tuple(d.dim_value or 1 for d in value.type.tensor_type.shape.dim)
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def seeded_model(path: Path, seed: int = 0) -> onnx.ModelProto:
    """Return the model with random weights, and with the logits as output where it ends in a Softmax.

    With constant weights all classes come out alike, which hides mistakes; random weights do not.
    """
    model = onnx.load(path)
    random = np.random.default_rng(seed)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    fills = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    for node in fills:
        weights = _weights(random, tuple(int(extent) for extent in shapes[node.input[0]]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, node.output[0]))
        model.graph.node.remove(node)
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.output[0].name = last.input[0]
        model.graph.node.remove(last)
    return model


def _weights(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices and filters that keep the size of activations; vectors near one, which suits every part of a batch norm."""
    if len(shape) < 2:
        return random.uniform(0.8, 1.2, shape).astype(np.float32)
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
