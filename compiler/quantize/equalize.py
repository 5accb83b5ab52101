"""Scales channels between two layers so that they use their codes alike: cross-layer equalization.

    f2(relu(f1(x))) == f2'(relu(f1'(x)))    with  W1'[c] = W1[c] / s[c],  b1'[c] = b1[c] / s[c],  W2'[:, c] = W2[:, c] * s[c]

A Relu commutes with a positive factor; a Clip at a constant does not. The factors make the largest weights of a channel
on both sides equal: `s[c] = sqrt(r1[c] / r2[c])`. With a scale for each channel of the weights the gain is that the
activations, which have one scale, use their range alike. Source: M. Nagel et al., Data-Free Quantization Through Weight
Equalization and Bias Correction, ICCV 2019 (https://arxiv.org/abs/1906.04721). Runs on the float graph, before it is observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..graph.nodes import Graph, Node, Value
from .operands import channel_axis

ROUNDS = 4
"""Sweeps over all pairs; the factors of one pair change the next."""
LARGEST_FACTOR = 64.0


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two layers with nothing but a Relu between them."""

    first: Node
    second: Node


def equalize(graph: Graph) -> tuple[Graph, int]:
    """Equalize all pairs of a graph.

    Returns:
        The graph with other constants, and the number of pairs.
    """
    pairs = list(_pairs(graph))
    arrays = dict(graph.constants)
    for _ in range(ROUNDS):
        for pair in pairs:
            _equalize(pair, arrays)
    return (replace(graph, constants=arrays) if pairs else graph), len(pairs)


def _pairs(graph: Graph) -> Iterator[Pair]:
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None:
                users.setdefault(value.name, []).append(node)
    bound = {value.name for value in graph.outputs}

    def only_user(node: Node) -> Node | None:
        (value,) = node.outputs[:1]
        found = users.get(value.name, []) if value is not None and value.name not in bound else []
        return found[0] if len(found) == 1 and found[0].inputs[0] == value else None

    if any(node.regions for node in graph.nodes):
        return
    for node in graph.nodes:
        if not _is_layer(node, graph, users):
            continue
        user = only_user(node)
        user = only_user(user) if user is not None and user.op == "Relu" else user
        if user is not None and _is_layer(user, graph, users) and (user.op == "Conv") == (node.op == "Conv"):
            yield Pair(node, user)


def _is_layer(node: Node, graph: Graph, users: dict[str, list[Node]]) -> bool:
    """True for a Conv or Gemm whose constants nothing else reads."""
    if node.op not in ("Conv", "Gemm") or node.attrs.get("transA"):
        return False
    constants = [value for value in node.inputs[1:] if value is not None]
    return all(v.name in graph.constants and len(users[v.name]) == 1 and graph.constants[v.name].dtype == np.float32 for v in constants)


def _equalize(pair: Pair, arrays: dict[str, np.ndarray]) -> None:
    first, second = _weights(pair.first), _weights(pair.second)
    outgoing, incoming = _by_output(pair.first, arrays[first.name]), _by_input(pair.second, arrays[second.name])
    before = np.abs(outgoing).reshape(len(outgoing), -1).max(1).astype(np.float64)
    after = np.abs(incoming).reshape(len(incoming), -1).max(1).astype(np.float64)
    alive = (before > 0) & (after > 0)
    factor = np.ones(len(before))
    factor[alive] = np.clip(np.sqrt(before[alive] / after[alive]), 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    arrays[first.name] = _scale_outputs(pair.first, arrays[first.name], 1 / factor)
    arrays[second.name] = _scale_inputs(pair.second, arrays[second.name], factor)
    bias = pair.first.inputs[2] if len(pair.first.inputs) > 2 else None
    if bias is not None:
        arrays[bias.name] = (np.broadcast_to(arrays[bias.name].reshape(-1), factor.shape) / factor).astype(np.float32)


def _weights(node: Node) -> Value:
    found = node.inputs[1]
    assert found is not None
    return found


def _by_output(node: Node, weights: np.ndarray) -> np.ndarray:
    """A view of the weights with the output channels first."""
    axis = channel_axis(node, weights.ndim)
    assert axis is not None
    return np.moveaxis(weights, axis, 0)


def _by_input(node: Node, weights: np.ndarray) -> np.ndarray:
    """A view of the weights with the input channels first."""
    if node.op == "Gemm":
        return np.moveaxis(weights, 1 if node.attrs.get("transB") else 0, 0)
    groups = _groups(node)
    split = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
    return np.moveaxis(split, 2, 1).reshape(groups * weights.shape[1], -1)


def _scale_outputs(node: Node, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    axis = channel_axis(node, weights.ndim)
    return np.asarray((weights * factor.reshape([-1 if k == axis else 1 for k in range(weights.ndim)])).astype(np.float32))


def _scale_inputs(node: Node, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    if node.op == "Gemm":
        return np.asarray((weights * (factor if node.attrs.get("transB") else factor.reshape(-1, 1))).astype(np.float32))
    groups = _groups(node)
    spread = factor.reshape(groups, 1, weights.shape[1], *(1 for _ in weights.shape[2:]))
    return np.asarray((weights.reshape(groups, -1, *weights.shape[1:]) * spread).reshape(weights.shape).astype(np.float32))


def _groups(node: Node) -> int:
    found = node.attrs.get("group", 1)
    assert isinstance(found, int)
    return found
