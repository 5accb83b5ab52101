"""Fills the source and export sections of the deployment record from an ONNX model."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..diagnostics import CompileError
from ..files import map_file
from .nodes import Export, Source

if TYPE_CHECKING:
    import onnx

    from ..frontend.limits import Limits

_ONNX_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training")


@dataclass(frozen=True, slots=True)
class Hashes:
    """sha256 of all bytes that a model consists of."""

    model: str
    """Of its own bytes."""
    external: Mapping[str, str] = field(default_factory=dict)
    """Of each external data file, by the location that the model gives."""


def describe_model(source: object, limits: Limits, hashes: Hashes | None = None) -> tuple[Source, Export]:
    """Read a model and describe it, with the hashes of its bytes and of all external data that it names, if they are not known.

    Raises:
        CompileError: E0101, E0103 or E0104 as for compiling it.
    """
    from ..frontend.source import read_source

    model = read_source(source, limits).model
    return describe_source(model, hash_model(source) if hashes is None else hashes), describe_export(model)


def hash_model(source: object) -> Hashes:
    """The hashes of a model and of all external data that it names.

    Raises:
        CompileError: if it is no model, or an external file may not be read.
    """
    data = _bytes_of(source)
    own = hashlib.sha256(data).hexdigest()
    if data.find(b"location") < 0:  # the key without which no tensor names a file
        return Hashes(own)
    from ..frontend.external import ExternalData
    from ..frontend.limits import Limits
    from ..frontend.source import read_source

    found = read_source(source, Limits())
    files = ExternalData(found.folder, found.name)
    names = dict(sorted(_external_locations(found.model)))
    return Hashes(own, {location: hashlib.sha256(files.file(location, tensor).data).hexdigest() for location, tensor in names.items()})


def _bytes_of(source: object) -> bytes | mmap.mmap:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        path = Path(os.fsdecode(os.fspath(source)))
        return map_file(path) if path.stat().st_size else b""
    import onnx

    if not isinstance(source, onnx.ModelProto):
        raise CompileError("E0101", "a model is a path, bytes or an onnx.ModelProto")
    return bytes(source.SerializeToString(deterministic=True))


def _external_locations(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Location and tensor, of each initializer and constant whose data lies in a file."""
    nodes = list(_all_nodes([*model.graph.node, *(node for function in model.functions for node in function.node)]))
    graphs = [model.graph, *(g for node in nodes for attribute in node.attribute for g in (attribute.g, *attribute.graphs))]
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    tensors += [tensor for node in nodes for attribute in node.attribute for tensor in (attribute.t, *attribute.tensors)]
    for tensor in tensors:
        if tensor.data_location == tensor.EXTERNAL:
            yield next((entry.value for entry in tensor.external_data if entry.key == "location"), ""), tensor.name


def describe_source(model: onnx.ModelProto, hashes: Hashes) -> Source:
    """Describe what was compiled."""
    return Source(
        model_sha256=hashes.model,
        external_sha256=hashes.external,
        graph_name=model.graph.name,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        model_version=model.model_version,
        domain=model.domain,
        doc_string=model.doc_string,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def describe_export(model: onnx.ModelProto) -> Export:
    """Describe what the exporter wrote."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    operators = Counter(operator_key(node) for node in _all_nodes(nodes))
    local = {(function.domain, function.name) for function in model.functions}
    custom = {operator_key(n) for n in _all_nodes(nodes) if n.domain not in _ONNX_DOMAINS and (n.domain, n.op_type) not in local}
    return Export(
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        operators=dict(sorted(operators.items())),
        custom_operators=tuple(sorted(custom)),
    )


def operator_key(node: onnx.NodeProto) -> str:
    """Name of a node's operator, with its domain unless that is the default one."""
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs included; a stack, since models nest as deep as they like."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                stack.extend(graph.node)
