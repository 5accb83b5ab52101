"""A small network with separable convolutions (https://arxiv.org/abs/1711.07128), trained in numpy.

Convolution, depthwise convolution and pointwise convolution are one layer: a sum over the taps of the window. Adam, cross
entropy, seeded; some five seconds on one core.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

CHANNELS, BLOCKS = 16, 2


@dataclass
class Conv:
    """A convolution with bias and ReLU; depthwise if the weights have one input channel for each of many."""

    weights: np.ndarray
    """[output channels, input channels or 1, height, width]"""
    stride: int
    pads: tuple[int, int, int, int]
    """Rows above, columns left, rows below, columns right."""
    bias: np.ndarray = field(init=False)
    depthwise: bool = False

    def __post_init__(self) -> None:
        self.bias = np.zeros(len(self.weights), np.float32)

    def _taps(self, padded: np.ndarray):
        height, width = ((padded.shape[2 + k] - self.weights.shape[2 + k]) // self.stride + 1 for k in range(2))
        for i in range(self.weights.shape[2]):
            for j in range(self.weights.shape[3]):
                yield i, j, (..., slice(i, i + height * self.stride, self.stride), slice(j, j + width * self.stride, self.stride))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """[n, c, h, w] to [n, o, h', w']."""
        top, left, bottom, right = self.pads
        self.padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        total = self.bias[:, None, None]
        for i, j, at in self._taps(self.padded):
            tap = self.weights[:, :, i, j]
            part = self.padded[at]
            total = total + (part * tap[:, 0, None, None] if self.depthwise else np.einsum("nchw,oc->nohw", part, tap, optimize=True))
        self.result = np.maximum(total, 0)
        return self.result

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """Gradient of the input; those of weights and bias are kept."""
        gradient = gradient * (self.result > 0)
        self.bias_gradient = gradient.sum(axis=(0, 2, 3))
        self.weights_gradient, back = np.zeros_like(self.weights), np.zeros_like(self.padded)
        for i, j, at in self._taps(self.padded):
            tap, part = self.weights[:, :, i, j], self.padded[at]
            if self.depthwise:
                self.weights_gradient[:, 0, i, j] = (gradient * part).sum(axis=(0, 2, 3))
                back[at] += gradient * tap[:, 0, None, None]
            else:
                self.weights_gradient[:, :, i, j] = np.einsum("nohw,nchw->oc", gradient, part, optimize=True)
                back[at] += np.einsum("nohw,oc->nchw", gradient, tap, optimize=True)
        top, left, bottom, right = self.pads
        return back[:, :, top : back.shape[2] - bottom, left : back.shape[3] - right]


@dataclass
class Network:
    """Convolutions, the mean over all places, and a matrix."""

    convolutions: list[Conv]
    head: np.ndarray
    """[channels, words]"""
    head_bias: np.ndarray

    def activations(self, x: np.ndarray) -> list[np.ndarray]:
        """What each convolution makes, then the means, then the scores of the words."""
        found = []
        for convolution in self.convolutions:
            x = convolution.forward(x)
            found.append(x)
        means = x.mean(axis=(2, 3))
        return [*found, means, means @ self.head + self.head_bias]


def new_network(words: int, seed: int = 0) -> Network:
    """A network with random weights."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    layers = [Conv(weights(CHANNELS, 1, 10, 4), 2, (4, 1, 5, 2))]
    for _ in range(BLOCKS):
        layers += [Conv(weights(CHANNELS, 1, 3, 3), 1, (1, 1, 1, 1), depthwise=True), Conv(weights(CHANNELS, CHANNELS, 1, 1), 1, (0,) * 4)]
    return Network(layers, weights(words, CHANNELS).T.copy(), np.zeros(words, np.float32))


def train(network: Network, clips: np.ndarray, labels: np.ndarray, rounds: int = 6, batch: int = 25, rate: float = 8e-3) -> None:
    """Fit the network to the clips, in place."""
    rng, moments = np.random.default_rng(1), {}
    steps = 0
    for _ in range(rounds):
        order = rng.permutation(len(clips))
        for start in range(0, len(clips), batch):
            chosen, steps = order[start : start + batch], steps + 1
            for key, (array, gradient) in enumerate(_gradients(network, clips[chosen], labels[chosen])):
                first, second = moments.setdefault(key, (np.zeros_like(array), np.zeros_like(array)))
                first += 0.1 * (gradient - first)
                second += 0.01 * (gradient**2 - second)
                array -= rate * (first / (1 - 0.9**steps)) / (np.sqrt(second / (1 - 0.99**steps)) + 1e-7)


def _gradients(network: Network, clips: np.ndarray, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each array of the network with its gradient."""
    *_, last, means, scores = network.activations(clips)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = odds / odds.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    found = [(network.head, means.T @ error), (network.head_bias, error.sum(axis=0))]
    places = last.shape[2] * last.shape[3]
    gradient = np.broadcast_to((error @ network.head.T)[:, :, None, None] / places, last.shape)
    for layer in reversed(network.convolutions):
        gradient = layer.backward(gradient)
        found += [(layer.weights, layer.weights_gradient), (layer.bias, layer.bias_gradient)]
    return found
