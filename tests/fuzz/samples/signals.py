"""Spectra and windows of signals."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Noise
from .registry import sample


@sample("DFT", weight=2)
def dft(d: Draft, op: str) -> None:
    x = d.tame("float32", "float32", "float64", rank=(2, 3, 4))
    if x.shape[-1] > 2 or d.opset < 20:
        x = d.add("Unsqueeze", x, d.constant([-1], listed=False))
    axis = d.int(0, x.rank - 2)
    is_real = x.shape[-1] == 1
    inverse = 0 if is_real else d.int(0, 1)
    onesided = d.int(0, 1) if is_real else 0
    length = d.constant(np.array(d.choose((x.shape[axis], 4, 5, 8, 12, 1, 7))), listed=False) if d.chance(40) else None
    if d.opset < 20:
        d.add(op, x, length, axis=axis, inverse=inverse, onesided=onesided, noise=Noise.ROUNDED)
        return
    place = d.constant(np.array(axis - (x.rank if d.chance(25) else 0)), listed=False)
    d.add(op, x, length, place, inverse=inverse, onesided=onesided, noise=Noise.ROUNDED)


@sample("STFT", weight=1)
def stft(d: Draft, op: str) -> None:
    batch, length, frame = d.choose((1, 2)), d.choose((32, 33, 20)), d.choose((8, 5, 16))
    x = d.fresh("float32", (batch, length, 1))
    step = d.constant(np.array(d.choose((4, 1, 3))), listed=False)
    window = d.like("float32", (frame,)) if d.chance(60) else None
    size = d.constant(np.array(frame), listed=False) if window is None or d.chance(50) else None
    d.add(op, x, step, window, *((size,) if size else ()), onesided=d.int(0, 1), noise=Noise.ROUNDED)


@sample("HannWindow", "HammingWindow", "BlackmanWindow", weight=1)
def window(d: Draft, op: str) -> None:
    size = d.constant(np.array(d.int(2, 33), d.choose(("int64", "int32"))), listed=False)
    d.add(op, size, periodic=d.int(0, 1), output_datatype=d.choose((1, 11)), noise=Noise.ROUNDED)


@sample("MelWeightMatrix", weight=1)
def mel(d: Draft, op: str) -> None:
    numbers = [d.constant(np.array(v), listed=False) for v in (d.int(1, 8), d.choose((16, 32)), d.choose((8000, 16000)))]
    edges = [d.constant(np.array(v, np.float32), listed=False) for v in (d.choose((0, 100)), 4000)]
    d.add(op, *numbers, *edges, noise=Noise.ROUNDED)
