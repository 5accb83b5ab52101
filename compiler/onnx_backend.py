"""The face of ONNX's own backend interface: `from onnxc import onnx_backend; onnx_backend.run_model(model, inputs)`.

Devices are targets: CPU is compiled in-process through LLVM, C through the C target, CUDA through the CUDA target (on the CPU,
through its host shim, where there is no GPU). Inputs may be a list in the order of the graph's inputs or a mapping by name, and
numpy scalars count as tensors of rank 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from shutil import which
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from . import driver
from .diagnostics import CompileError
from .target import load_target

TARGETS = {"CPU": "cpu", "C": "c", "CUDA": "cuda"}


class CompiledRep(BackendRep):
    """A compiled model behind ONNX's interface."""

    def __init__(self, model: driver.CompiledModel) -> None:
        self.model = model
        self._names = model.output_names

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run on a list, a mapping or a single array; returns a named tuple of the outputs in the graph's order."""
        if not isinstance(inputs, Mapping):
            listed = inputs if isinstance(inputs, list | tuple) else [inputs]
            inputs = dict(zip(self.model.input_names, listed, strict=False))
        found = self.model.run({name: as_tensor(value) for name, value in inputs.items() if value is not None})
        outputs: tuple[Any, ...] = namedtupledict("Outputs", list(self._names))(*(found[name] for name in self._names))
        return outputs


class OnnxcBackend(Backend):
    """ONNX's backend interface over `onnxc.compile`."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CompiledRep:
        """Compile a model for a device; keyword arguments go to `onnxc.compile`."""
        return CompiledRep(driver.compile(model, target_of(device), **kwargs))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node; its input types are those of the arrays, its output types are inferred."""
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        arrays = [as_tensor(value) for value in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            node.name or node.op_type,
            [_value_info(name, array.dtype, array.shape) for name, array in zip(names, arrays, strict=True)],
            [_output_info(name, i, outputs_info) for i, name in enumerate(node.output) if name],
        )
        domains = [onnx.helper.make_opsetid("", opset)] + ([onnx.helper.make_opsetid(node.domain, 1)] if node.domain else [])
        model = onnx.helper.make_model(graph, opset_imports=domains)
        return cls.prepare(model, device, **kwargs).run(dict(zip(names, arrays, strict=True)))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True if the device's target can run here."""
        name = device.partition(":")[0]
        return name in TARGETS and _RUNS_HERE[name]() and _has_target(target_of(device))


_RUNS_HERE: Mapping[str, Callable[[], bool]] = {
    "CPU": lambda: find_spec("llvmlite") is not None,
    "C": lambda: any(which(compiler) for compiler in ("cc", "gcc", "clang")),
    "CUDA": lambda: _has_gpu() or any(which(compiler) for compiler in ("g++", "clang++")),
}


def _has_gpu() -> bool:
    return which("nvidia-smi") is not None and which("nvcc") is not None


def target_of(device: str) -> str:
    """The target string of a device of ONNX's interface."""
    name = device.partition(":")[0]
    return "cuda:shim" if name == "CUDA" and not _has_gpu() else TARGETS[name]


def _has_target(text: str) -> bool:
    try:
        load_target(text)
    except (CompileError, ImportError):
        return False
    return True


def as_tensor(value: Any) -> Any:
    """An array of a numpy scalar or a Python number; lists (sequences) go through element by element."""
    if isinstance(value, list):
        return [as_tensor(item) for item in value]
    return np.asarray(value)


def _value_info(name: str, dtype: np.dtype, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    code = onnx.TensorProto.STRING if dtype.kind in "OUS" else onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_value_info(name, code, shape)


def _output_info(name: str, position: int, given: Sequence[tuple[np.dtype, tuple[int, ...]]] | None) -> onnx.ValueInfoProto:
    if given is None:
        return onnx.ValueInfoProto(name=name)
    dtype, shape = given[position]
    return _value_info(name, np.dtype(dtype), shape)


prepare = OnnxcBackend.prepare
run_model = OnnxcBackend.run_model
run_node = OnnxcBackend.run_node
supports_device = OnnxcBackend.supports_device
is_compatible = OnnxcBackend.is_compatible
