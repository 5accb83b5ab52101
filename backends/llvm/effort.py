"""How much of LLVM's work a program is worth: all of it, or none where a run is over before that could show.

Half of the time to compile a model of one operator would go into making its code fast. Where the program alone says that a run takes
some microseconds, which calling it takes too, LLVM translates without optimizing (`docs/decisions/0020-small-programs.md`).
Results are the same bit for bit: nothing that LLVM does to our code changes the rounding of a float.
"""

from __future__ import annotations

import math

from ...compiler.kernel.bounds import Bounds
from ...compiler.kernel.nodes import Alloc, Block, For, If, Kernel, Let, Stmt, While
from ...compiler.program.nodes import Call, Program, Repeat, walk_steps
from .features import CpuFeatures
from .jit import CodeOptions
from .print_program import PARALLEL_WORK

SMALL_WORK = PARALLEL_WORK
"""Estimated cycles of a run below which a program is small: what is not worth a second thread is not worth more of LLVM either."""
STATEMENT_WORK = 4
"""The least cycles that a statement counts for: estimates of operators that are loops of their own take no account of all they do."""
QUICK = CodeOptions(opt_level=0)
FULL = CodeOptions()


def code_options(program: Program, features: CpuFeatures) -> CodeOptions:
    """How LLVM treats the modules of a program. Code for another machine is made to be kept, so it gets everything."""
    return QUICK if features.is_host and features.may_be_quick and is_small(program) else FULL


def is_small(program: Program) -> bool:
    """True if no run takes more than `SMALL_WORK`; what only a run knows, an extent or how often a loop turns, may be anything."""
    work = 0.0
    for step in walk_steps(program.steps):
        if isinstance(step, Call):
            work += _work(step, program.kernels[step.kernel])
        if isinstance(step, Repeat) or work >= SMALL_WORK:
            return False
    return True


def _work(call: Call, kernel: Kernel) -> float:
    statements = STATEMENT_WORK * _statements(kernel.body, Bounds())
    return max(statements, call.work) if isinstance(call.work, int) else statements


def _statements(stmt: Stmt, bounds: Bounds) -> float:
    """The most statements that one execution of a statement executes, infinite if nothing bounds them."""
    match stmt:
        case For():
            turns = bounds.of(stmt.extent)
            if turns is not None and turns[1] <= 0:
                return 0
            return math.inf if turns is None else turns[1] * _statements(stmt.body, bounds)
        case While():
            return math.inf
        case Block():
            return sum(_statements(inner, bounds) for inner in stmt.body)
        case If():
            return 1 + _statements(stmt.then, bounds) + (0 if stmt.other is None else _statements(stmt.other, bounds))
        case Let() | Alloc():
            return 1 + _statements(stmt.body, bounds)
        case _:
            return 1
