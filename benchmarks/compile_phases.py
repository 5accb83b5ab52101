"""Where compile time goes: user seconds of each phase, for models or for a chain of elementwise operators.

    python benchmarks/compile_phases.py model.onnx 5000

A number stands for a chain of so many nodes. LLVM's seconds are summed over its threads, and overlap with printing.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper

import onnxc
from onnxc.backends.llvm import backend, emit, jit
from onnxc.passes.plan import lower_graph

OPERATORS = ("Relu", "Neg", "Abs", "Tanh", "Sigmoid", "Exp", "Sqrt")
FUNCTIONS = (
    (lower_graph, "form_groups"), (backend, "schedule"), (backend, "lower"), (emit, "print_module"),
    (emit, "print_program"), (jit, "_optimized"), (jit, "_compile"),
)  # fmt: skip


class Clock:
    """Seconds of the calling thread spent in some functions, nested ones included."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def watch(self, module: Any, name: str) -> None:
        """Measure every call of a module's function."""
        function = getattr(module, name)

        def timed(*args: Any, **options: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                with self._lock:
                    self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - started

        setattr(module, name, timed)


def chain(length: int) -> onnx.ModelProto:
    """A model of elementwise operators, one after the other."""
    names = ["x", *(f"v{k}" for k in range(1, length)), "y"]
    nodes = [helper.make_node(OPERATORS[k % len(OPERATORS)], [names[k]], [names[k + 1]]) for k in range(length)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 64]) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, "chain", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)])


def processor_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Run something; returns the seconds that all threads of the process spent, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main() -> None:
    """Compile the models of the command line and print a line for each."""
    clock = Clock()
    for module, name in FUNCTIONS:
        clock.watch(module, name)
    onnxc.compile(chain(2), target="cpu", cache=False)  # imports
    for text in sys.argv[1:]:
        clock.seconds.clear()
        source = chain(int(text)) if text.isdigit() else text
        seconds, model = processor_seconds(lambda source=source: onnxc.compile(source, target="cpu", cache=False))
        phases = {**model.report["seconds"], **{f"{name}()": value for name, value in clock.seconds.items()}}
        print(f"{text}: {seconds:.2f} s, {model.report['kernels']} kernels")
        print("   " + ", ".join(f"{name} {value:.3f}" for name, value in phases.items() if value > 0.01))


if __name__ == "__main__":
    main()
