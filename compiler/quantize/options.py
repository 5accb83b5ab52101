"""What a user may say about a quantization."""

from __future__ import annotations

from dataclasses import dataclass

from ..diagnostics import CompileError
from ..dtypes import DType

METHODS = ("minmax", "percentile", "mse", "entropy")
"""How a range is chosen from what was observed: rows of `ranges.py`."""
AUTOMATIC = ("minmax", "percentile", "mse")
"""Methods of which `auto` takes the one that is closest to the float model on the samples."""
ACTIVATIONS = {"int8": DType.INT8, "uint8": DType.UINT8, "int16": DType.INT16}


@dataclass(frozen=True, slots=True)
class Budget:
    """How far the quantized model may be from the float one, over all outputs and samples."""

    sqnr_db: float | None = None
    """Least ratio of signal to noise."""
    max_relative: float | None = None
    """Largest error, relative to the largest magnitude of the output."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `30dB` or `0.02`; E0702 for anything else."""
        number, is_db = text.strip().lower().removesuffix("db").strip(), text.strip().lower().endswith("db")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not value > 0 or value == float("inf"):
            raise CompileError(
                "E0702", f"the accuracy budget '{text}' is not understood", hint="give a ratio such as 30dB, or an error such as 0.02"
            )
        return cls(sqnr_db=value) if is_db else cls(max_relative=value)

    def __str__(self) -> str:
        return f"{self.sqnr_db:g} dB" if self.sqnr_db is not None else f"relative error {self.max_relative:g}"


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """How to quantize."""

    method: str = "auto"
    """One of `METHODS`, or `auto`: the best of `AUTOMATIC`."""
    percentile: float = 99.99
    """Share of the observed values, in percent, that the method of this name covers."""
    per_channel: bool = True
    """Whether weights have a scale for each output channel."""
    activations: DType = DType.INT8
    """Type of the codes between layers."""
    symmetric: bool = False
    """Whether the zero point of these codes is the middle of their range."""
    keep_float: frozenset[str] = frozenset()
    """Nodes, by name or by the name of an output, that are not quantized."""
    budget: Budget | None = None
    """If given, as many layers stay float as it takes."""
    equalize: bool = False
    """Whether channels are scaled between layers first."""
    correct_bias: bool = True
    """Whether the mean error of each channel is taken from the bias."""
    most_samples: int | None = None
    """Samples to look at; all if None."""
    integer_io: bool = False
    """Whether inputs and outputs of the model are codes themselves."""
