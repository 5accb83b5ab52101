"""An ONNX model made simpler: constants folded, batch norms in the weights, functions inlined, what does nothing left out.

This is what the compiler makes of a model before anything is for a target, written back (`onnxc compile --emit onnx`): the
service that onnxsim and onnxoptimizer give. Inputs, outputs, symbolic extents, regions and metadata stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .diagnostics import CompileError, Loc
from .frontend import load_graph
from .frontend.limits import Limits
from .frontend.source import read_source
from .graph.nodes import Graph
from .graph.to_onnx import to_onnx
from .pass_runner import run_passes
from .pipeline import Model, Options
from .target import Target

if TYPE_CHECKING:
    import onnx

PASSES = (
    "eliminate_dead_code", "fold_constants", "simplify", "eliminate_dead_code", "fold_batch_norm", "eliminate_common_subexpressions",
    "eliminate_dead_code",
)  # fmt: skip
"""Passes that make a graph simpler for everybody; the others are for targets."""
MOST_BYTES = 2_000_000_000
"""A protobuf message ends at 2 GiB: larger weights go to a file beside the model."""
ALIGN = 4096
"""Offsets in that file, so that it can be mapped."""
SMALLEST = 1024
"""Bytes of a tensor that is worth to go there."""


def simplified_model(source: Model, target: Target, options: Options) -> onnx.ModelProto:
    """Read a model and simplify it.

    Args:
        source: the model.
        target: any one; it has the passes.
        options: extents of symbolic dimensions, and a name.

    Returns:
        A model that computes the same; its weights are inside, however large.

    Raises:
        CompileError: for every fault of the model; E0202 if it has inputs or outputs that are no tensors.
    """
    from .. import __version__

    graph = load_graph(source, bind=options.bind, max=options.max)
    if graph.signature is not None or graph.texts:
        raise CompileError("E0202", "a model with sequences, optionals or strings is not written back", Loc(graph.name))
    found = {graph_pass.name: graph_pass for graph_pass in target.pipeline.graph_passes}
    simple: Graph = run_passes(graph, tuple(found[name] for name in PASSES), (), "")
    model = to_onnx(simple, __version__)
    _keep_metadata(model, read_source(source, Limits()).model)
    if options.name:
        model.graph.name = options.name
    return model


def model_files(model: onnx.ModelProto, name: str, most_bytes: int = MOST_BYTES) -> dict[str, bytes]:
    """The files of a model by name: one, or two if its weights are too many for one; the model is changed then."""
    tensors = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= SMALLEST]
    if sum(len(tensor.raw_data) for tensor in tensors) <= most_bytes:
        return {name: model.SerializeToString()}
    data = bytearray()
    for tensor in tensors:
        data.extend(bytes(-len(data) % ALIGN))
        entries = {"location": f"{name}.data", "offset": str(len(data)), "length": str(len(tensor.raw_data))}
        data.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = tensor.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    return {name: model.SerializeToString(), f"{name}.data": bytes(data)}


def _keep_metadata(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """What the exporter wrote about the model, its inputs and outputs."""
    for field in ("domain", "model_version", "doc_string"):
        if source.HasField(field):
            setattr(model, field, getattr(source, field))
    if source.producer_name:
        model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.metadata_props.extend(source.metadata_props)
    if source.graph.doc_string:
        model.graph.doc_string = source.graph.doc_string
    said = {value.name: value for value in (*source.graph.input, *source.graph.output)}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in said:
            _keep_remarks(value, said[value.name])


def _keep_remarks(value: onnx.ValueInfoProto, source: onnx.ValueInfoProto) -> None:
    """The description of an input or output, and what its axes are."""
    if source.doc_string:
        value.doc_string = source.doc_string
    if source.type.denotation:
        value.type.denotation = source.type.denotation
    for dim, given in zip(value.type.tensor_type.shape.dim, source.type.tensor_type.shape.dim, strict=False):
        if given.denotation:
            dim.denotation = given.denotation
        if not dim.WhichOneof("value") and given.HasField("dim_param"):
            dim.dim_param = given.dim_param
