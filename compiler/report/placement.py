"""What becomes of each node of a model on a target: the kernel that computes it, or why it needs none, or why it cannot be compiled.

`onnxc inspect --target` shows it. A node is known by its name, which survives all passes (`Loc.node`); the steps of the program say
which nodes they compute, and the pass after which a node is gone says why nothing does.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..diagnostics import CompileError, Diagnostic
from ..frontend import load_graph
from ..graph.nodes import Graph, Node
from ..pass_runner import run_passes
from ..pipeline import Model, Options, make_program
from ..program.nodes import Call, Program, walk_steps
from ..target import Target


class Place(enum.Enum):
    """Where the work of a node is done."""

    KERNEL = "kernel"
    CONTROL = "program"  # If, Loop and Scan, which the program runs itself
    NOWHERE = "none"  # folded, merged, or a view
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"  # other nodes stop the compile before this one is placed


@dataclass(frozen=True, slots=True)
class Placement:
    """One node of the model."""

    node: str
    operator: str
    place: Place
    kernels: tuple[str, ...] = ()
    schedule: str = ""
    """How the kernels run, as their schedule records say."""
    group: tuple[str, ...] = ()
    """Nodes that are computed together with this one, itself left out."""
    reason: str = ""
    """Why there is no kernel."""


@dataclass(frozen=True, slots=True)
class Placements:
    """The whole model."""

    target: str
    nodes: tuple[Placement, ...]
    problems: tuple[Diagnostic, ...] = ()
    """Why the target cannot compile the model; empty if it can."""


@dataclass(slots=True)
class _Gone:
    """An instrument of the pass runner that notes after which pass a node's name does not occur any more."""

    left: set[str]
    passes: dict[str, str] = field(default_factory=dict)

    def after(self, name: str, ir: Graph, seconds: float) -> None:
        """See `pass_runner.Instrument`."""
        now = {node.loc.node for node in all_nodes(ir)}
        self.passes.update(dict.fromkeys(self.left - now, name))
        self.left &= now


def place_nodes(source: Model, target: Target, options: Options) -> Placements:
    """Find out what becomes of the nodes of a model; nodes of functions and regions are among them."""
    names: dict[str, str] = dict(_named_nodes(source))
    try:
        graph = load_graph(source, bind=options.bind, max=options.max)
        names = {node.loc.node: node.loc.op_type or node.op for node in all_nodes(graph)} | names
        gone = _Gone({node.loc.node for node in all_nodes(graph)})
        final = run_passes(graph, target.pipeline.graph_passes, (gone,), "")
        program = make_program(final, target, {})
    except CompileError as error:
        if error.code == "E0901":
            raise
        return Placements(target.name, tuple(_refused(names, error.diagnostics)), error.diagnostics)
    return Placements(target.name, tuple(_placed(names, gone, final, program)))


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and its regions."""
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from all_nodes(region)


def _named_nodes(source: Model) -> Iterator[tuple[str, str]]:
    """Name and operator of the nodes of the file, in order; all that is known of a model that cannot be read further."""
    from ..frontend.bodies import Call as ModelNode
    from ..frontend.limits import Limits
    from ..frontend.source import read_source

    for proto in read_source(source, Limits()).model.graph.node:
        node = ModelNode.of(proto, {})
        yield node.name, node.op


def _refused(names: dict[str, str], problems: Iterable[Diagnostic]) -> Iterator[Placement]:
    why: dict[str, list[str]] = {}
    for problem in problems:
        why.setdefault(problem.loc.node, []).append(f"{problem.code}: {problem.message}")
    for name, operator in names.items():
        place = Place.UNSUPPORTED if name in why else Place.UNKNOWN
        yield Placement(name, operator, place, reason="; ".join(why.get(name, ())))


def _placed(names: dict[str, str], gone: _Gone, graph: Graph, program: Program) -> Iterator[Placement]:
    calls: dict[str, list[Call]] = {}
    for call in (step for step in walk_steps(program.steps) if isinstance(step, Call)):
        for name in call.covers:
            calls.setdefault(name, []).append(call)
    left = {node.loc.node: node for node in all_nodes(graph)}
    for name, operator in names.items():
        if name in calls:
            kernels = tuple(dict.fromkeys(call.kernel for call in calls[name]))
            group = tuple(dict.fromkeys(n for call in calls[name] for n in call.covers if n != name))
            schedule = "; ".join(dict.fromkeys(program.kernels[k].schedule or "as written" for k in kernels))
            yield Placement(name, operator, Place.KERNEL, kernels, schedule, group)
        elif name in left and left[name].regions:
            yield Placement(name, operator, Place.CONTROL)
        else:
            yield Placement(name, operator, Place.NOWHERE, reason=_why_no_kernel(name, gone, left))


def _why_no_kernel(name: str, gone: _Gone, left: dict[str, Node]) -> str:
    if name in left:
        return "a view, or a part of what others write in place"
    return f"not needed after {gone.passes[name]}" if name in gone.passes else "a constant, or not used"
