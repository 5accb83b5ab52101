"""The files of a compiled model in CUDA C++: one `.cu`, one `.h`, the weights, and a CMake file.

Skeletons stand in `templates/cuda`; all arithmetic comes from the printers.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence

import jinja2

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim
from ...compiler.program.nodes import Program
from ...compiler.program.weights import ALIGN, pack_weights
from ..c.names import clean
from ..c.package import VERSION, comment, dim_text, model_name, status_codes
from .print import CUDA, print_kernel_cuda
from .print_program import CudaProgramPrinter, arena_bytes

CUDA_ERROR = 254
"""Status of a run in which a call of CUDA failed."""
FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "cuda"
SHIM_FOLDER = FOLDER / "shim"


def print_files(program: Program, architectures: Sequence[str]) -> dict[str, bytes]:
    """Return the files of a program by name.

    Args:
        program: whose kernels are lowered for CUDA.
        architectures: such as `sm_80`; empty for that of the machine that compiles the files.
    """
    name = model_name(program)
    helpers: dict[str, str] = {}
    functions = {kernel: f"{clean(kernel)}_k{k}" for k, kernel in enumerate(program.kernels)}
    kernels = [print_kernel_cuda(kernel, helpers, functions[key]) for key, kernel in program.kernels.items()]
    printer = CudaProgramPrinter(program, functions, helpers)
    run = printer.function(f"{name}_run")
    weights = pack_weights(program.constants).tobytes()
    face = _face(program, printer, len(weights))
    sizes = "\n".join([_sizes(printer, program, name), printer.status_function(f"{name}_status")])
    primitives = template("primitives.h.j2").render(**face)
    body = {"primitives": primitives, "helpers": list(helpers.values()), "kernels": kernels, "sizes": sizes, "run": run}
    numbers = ";".join(a.removeprefix("sm_") for a in architectures) or "native"
    return {
        f"{name}.h": template("model.h.j2").render(**face).encode(),
        f"{name}.cu": template("model.cu.j2").render(**face, **body).encode(),
        "CMakeLists.txt": template("CMakeLists.txt.j2").render(**face, architectures=numbers).encode(),
        f"{name}_weights.bin": weights,
    }


def print_bridge(name: str) -> str:
    """The text of the file that calls a model on tensors of the host."""
    return template("bridge.cu.j2").render(name=name, macro=name.upper())


def _sizes(printer: CudaProgramPrinter, program: Program, name: str) -> str:
    ports = {"input": program.inputs, "output": program.outputs}
    return "\n".join(
        [
            printer.size_function(f"{name}_arena_bytes(const int64_t *symbols)", [arena_bytes(program)]),
            *(
                printer.size_function(f"{name}_{role}_bytes(int index, const int64_t *symbols)", [_bytes(v) for v in values] or [0])
                for role, values in ports.items()
            ),
        ]
    )


def _bytes(value: Value) -> Dim:
    return build.product((*value.type.shape, value.type.dtype.bytes))


def _face(program: Program, printer: CudaProgramPrinter, weight_bytes: int) -> Mapping[str, object]:
    name = model_name(program)
    roles = [("input", program.inputs), ("output", program.outputs)]
    return {
        "name": name,
        "macro": name.upper(),
        "title": comment(program.name or name),
        "version": VERSION,
        "ports": [_port(role, k, value) for role, values in roles for k, value in enumerate(values)],
        "inputs": len(program.inputs),
        "outputs": len(program.outputs),
        "symbols": [comment(s.symbol.name) for s in program.symbols],
        "locals": [comment(v.name) for v in program.locals],
        "weight_bytes": weight_bytes,
        "codes": status_codes(program),
        "cuda_error": CUDA_ERROR,
        "can_fail": printer.can_fail,
        "reads": printer.reads,
        "heaps": program.heaps,
        "heap_outputs": sorted(program.heap_outputs),
        "align": ALIGN,
    }


def _port(role: str, index: int, value: Value) -> Mapping[str, object]:
    shape = " x ".join(comment(dim_text(d)) for d in value.type.shape) or "1"
    dtype, held = value.type.dtype, CUDA.type(value.type.dtype)
    kind = held if dtype.is_int or held in ("float", "double") else f"{held} ({dtype.label})"
    return {"role": role, "index": index, "name": comment(value.name), "type": kind, "shape": shape}


@functools.cache
def template(name: str) -> jinja2.Template:
    """A skeleton."""
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.get_template(name)
