"""Synthetic keywords: spectrograms in which each word is a few formants that glide, as a microphone and a filter bank would show them.

A word is a list of ridges (start, end, frequency at the start, frequency at the end, loudness), in parts of the clip and of the
frequency axis. A clip is the word somewhere in a second of noise, spoken slower or faster, higher or lower, louder or softer.
"""

from __future__ import annotations

import numpy as np

FRAMES, BANDS = 49, 10
WORDS = ("yes", "no", "up", "down", "left", "right", "stop", "go")
_RIDGES = (
    ((0.0, 0.5, 0.8, 0.5, 1.0), (0.5, 1.0, 0.9, 0.9, 0.8)),
    ((0.0, 0.4, 0.3, 0.3, 0.8), (0.4, 1.0, 0.5, 0.2, 1.0)),
    ((0.0, 0.7, 0.4, 0.6, 1.0), (0.9, 1.0, 0.1, 0.1, 0.9)),
    ((0.0, 0.2, 0.1, 0.3, 0.7), (0.2, 0.8, 0.6, 0.2, 1.0), (0.8, 1.0, 0.3, 0.3, 0.6)),
    ((0.0, 0.3, 0.4, 0.4, 0.6), (0.3, 0.7, 0.6, 0.6, 1.0), (0.8, 1.0, 0.9, 0.9, 0.9)),
    ((0.0, 0.3, 0.2, 0.4, 0.8), (0.3, 0.9, 0.5, 0.8, 1.0)),
    ((0.0, 0.3, 0.9, 0.9, 1.0), (0.4, 0.8, 0.4, 0.4, 1.0)),
    ((0.0, 0.1, 0.1, 0.1, 0.9), (0.1, 1.0, 0.5, 0.1, 1.0)),
)


def make_clips(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and words of random clips: [count, 1, FRAMES, BANDS] float32 and [count] int64 (positions in `WORDS`)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(WORDS), count)
    return np.stack([_clip(rng, _RIDGES[label]) for label in labels])[:, None].astype(np.float32), labels


def _clip(rng: np.random.Generator, ridges: tuple[tuple[float, ...], ...]) -> np.ndarray:
    length = rng.uniform(18, 32)
    first, pitch, loudness = rng.uniform(0, FRAMES - length), rng.normal(0, 0.04), rng.uniform(0.7, 1.3)
    time, band = np.arange(FRAMES)[:, None], np.arange(BANDS)[None, :] / (BANDS - 1)
    found = rng.normal(0, 0.25, (FRAMES, BANDS))
    for start, end, low, high, strength in ridges:
        part = np.clip(((time - first) / length - start) / (end - start), 0, 1)
        sounding = 1 / (1 + np.exp(-np.minimum(time - first - start * length, first + end * length - time)))
        found += loudness * strength * 2 * sounding * np.exp(-(((band - (low + (high - low) * part) - pitch) / 0.1) ** 2))
    return found
