"""A run of a C artifact on an emulated board: what `Target.emulate` of the `c` backend does."""

from __future__ import annotations

import ctypes
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ....compiler.emulation import Emulation, EmulationOptions, LayerCost
from ....compiler.program.interface import Interface, Port, evaluate_dim
from ....compiler.program.runner import Runner
from ..artifact import CArtifact
from ..names import model_prefix
from .boards import Processor, processor_of
from .harness import Sizes, layers_in
from .image import Image, build_image
from .machine import Counts, build_plugin, find_emulator, run_image
from .stack_bound import stack_bound
from .toolchains import Toolchain, find_toolchain


def emulate(artifact: CArtifact, processor_name: str, inputs: Mapping[str, object], options: EmulationOptions) -> Emulation:
    """Build a model for the board of a processor and run it there once.

    Args:
        artifact: the model.
        processor_name: as in a target string.
        inputs: arrays by name.
        options: how the model is built.

    Raises:
        CompileError: E0301 if the processor is not emulated, E0303 if a tool is missing, E0305 if the model does not fit the
            board, E0401 for inputs that do not fit, E0402 if a check fails at run time, E0602 if the run does not end well.
    """
    processor = processor_of(processor_name)
    emulator = find_emulator(processor.board.architecture)
    toolchain = find_toolchain(options.compiler, processor)
    with tempfile.TemporaryDirectory(prefix="onnxc-") as name:
        board = _Device(artifact, Path(name), processor, emulator, toolchain, options.optimization)
        outputs = Runner(artifact.interface, board).run(inputs)
    return board.report(outputs)


class _Device:
    """The board as a function that `Runner` can call: it gets addresses of this process and copies what lies there."""

    image: Image
    counts: Counts
    sizes: Sizes
    stack_bytes = 0

    def __init__(
        self, artifact: CArtifact, folder: Path, processor: Processor, emulator: str, toolchain: Toolchain, optimization: str
    ) -> None:
        self.artifact, self.face, self.folder = artifact, artifact.interface, folder
        self.processor, self.emulator, self.toolchain, self.optimization = processor, emulator, toolchain, optimization
        self.entry = f"{model_prefix(self.face.name)}_run"

    def __call__(self, inputs: int, outputs: int, symbols: int, arena: int) -> int:
        """Build for the extents among the symbols, run, and fill the outputs."""
        del arena
        count = len(self.face.symbols)
        table = (ctypes.c_int64 * (count + len(self.face.locals))).from_address(symbols)
        self.sizes = sizes_of(self.face, list(table[:count]))
        pointers = (ctypes.c_void_p * len(self.sizes.inputs)).from_address(inputs)
        parts = [ctypes.string_at(address or 0, size) for address, size in zip(pointers, self.sizes.inputs, strict=True)]
        (self.folder / "inputs.bin").write_bytes(b"".join(parts))
        processor, toolchain = self.processor, self.toolchain
        sources = self.artifact.sources
        self.image = build_image(self.folder, self.face, sources, self.sizes, processor, toolchain, self.optimization)
        build_plugin(self.folder, self.emulator)
        self.counts = run_image(self.folder, processor.board, self.emulator, self.image.elf, self.entry)
        return self._take((self.folder / "outputs.bin").read_bytes(), outputs, table)

    def _take(self, data: bytes, outputs: int, table: ctypes.Array[ctypes.c_int64]) -> int:
        """Copy what the program wrote to where the runner wants it; returns the status of the run."""
        status, self.stack_bytes = (int(n) for n in np.frombuffer(data, "<u4", 2))
        held = max(1, len(table))
        table[:] = [int(n) for n in np.frombuffer(data, "<i8", held, 8)[: len(table)]]
        at, pointers = 8 + 8 * held, (ctypes.c_void_p * len(self.sizes.outputs)).from_address(outputs)
        for address, size in zip(pointers, self.sizes.outputs, strict=True):
            ctypes.memmove(address or 0, data[at : at + size], size)
            at += size
        return status

    def report(self, outputs: Mapping[str, np.ndarray]) -> Emulation:
        """What the run gave and took."""
        board, image = self.processor.board, self.image
        names = [pair for text in self.artifact.sources.values() for pair in layers_in(text, self.face)]
        layers = tuple(
            LayerCost(name, nodes, function, self.counts.layers.get(k, 0))
            for k, ((name, function), nodes) in enumerate(zip(names, self.face.layers or [()] * len(names), strict=True))
        )
        return Emulation(
            outputs=outputs,
            machine=f"{board.architecture.emulator} {board.machine}",
            compiler=f"{self.toolchain.describe()} -O{self.optimization}",
            instructions=self.counts.total,
            layers=layers,
            outside_instructions=self.counts.outside,
            functions=self.counts.functions,
            arena_bytes=self.sizes.arena,
            static_bytes=image.bytes_of("variables"),
            io_bytes=sum(self.sizes.inputs) + sum(self.sizes.outputs),
            stack_bytes=self.stack_bytes,
            stack_bound_bytes=stack_bound(image.calls, self.entry),
            stack_bound_lacks=tuple(sorted({name for found in image.objects for name in found.undefined})) if image.calls else (),
            code_bytes=image.bytes_of("code"),
            constant_bytes=image.bytes_of("constants"),
            notes=(self.processor.note,) if self.processor.note else (),
        )


def sizes_of(face: Interface, values: list[int]) -> Sizes:
    """Bytes of inputs, outputs and arena for extents of the symbols."""
    symbols = {s.symbol.name: value for s, value in zip(face.symbols, values, strict=True)}

    def size(port: Port) -> int:
        return math.prod(max(0, evaluate_dim(d, symbols)) for d in port.shape) * port.dtype.numpy.itemsize

    outputs = tuple(face.capacities[k] * p.dtype.numpy.itemsize if k in face.capacities else size(p) for k, p in enumerate(face.outputs))
    return Sizes(tuple(map(size, face.inputs)), outputs, tuple(values), max(0, evaluate_dim(face.arena_bytes, symbols)))
