"""What became of a quantization: errors of each layer and of the whole, and sizes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from .measure import Distance
from .options import QuantizeOptions


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer."""

    name: str
    op: str
    output: str
    quantized: bool
    alone_db: float | None
    """Ratio of signal to noise if only this layer is quantized; None for a float layer or without noise."""
    sqnr_db: float | None
    """The same at the layer's output in the quantized model; None without noise."""


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output of the model, over all samples."""

    name: str
    sqnr_db: float | None
    max_error: float
    max_relative: float
    """By the largest magnitude of the output."""
    top1: float
    """Share of rows whose largest element is at the same place."""


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """The whole quantization."""

    method: str
    activations: str
    per_channel: bool
    equalized: int
    """Pairs of layers between which channels were scaled."""
    corrected: int
    """Layers whose bias was corrected."""
    samples: int
    """Batches of samples that were looked at."""
    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...]
    float_bytes: int
    """Of the constants before."""
    quantized_bytes: int
    """Of the constants after."""

    @property
    def kept_float(self) -> tuple[str, ...]:
        """Names of the contractions that stay float."""
        return tuple(layer.name for layer in self.layers if not layer.quantized)


def to_json(report: QuantizeReport) -> str:
    """The report as JSON."""
    return json.dumps(asdict(report), indent=2) + "\n"


def finite(decibels: float) -> float | None:
    """A ratio as JSON has it: None for an infinite one."""
    return decibels if math.isfinite(decibels) else None


def output_report(name: str, distance: Distance) -> OutputReport:
    """The line of an output."""
    return OutputReport(name, finite(distance.sqnr_db), distance.max_error, distance.max_relative, distance.top1)


def describe_options(options: QuantizeOptions) -> str:
    """The method with what belongs to it, for people."""
    return f"{options.method} {options.percentile:g}%" if options.method == "percentile" else options.method
