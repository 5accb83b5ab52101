"""Loading a model: the order of the gates that a file passes on its way to a typed graph."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..graph.nodes import Graph
from .bodies import BodyReader
from .coverage import check_operators
from .dissolve_images import dissolve_images
from .dissolve_strings import dissolve_strings
from .external import ExternalData
from .functions import check_size, read_functions
from .importer import Importer
from .limits import Budget, Limits
from .opsets import read_opsets
from .source import Source, read_source
from .symbols import Symbols
from .tensors import TensorReader
from .upgrade import upgrade_old

if TYPE_CHECKING:
    import onnx


DEFAULT = Limits()
NOTHING: Mapping[str, int] = MappingProxyType({})


def load_graph(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    limits: Limits = DEFAULT,
    bind: Mapping[str, int] = NOTHING,
    max: Mapping[str, int] = NOTHING,
    overridable: Collection[str] = (),
) -> Graph:
    """Read a model into a typed graph of newest operators.

    Args:
        source: path of a model, its bytes, or the model itself. External data is read from the folder of the path.
        limits: bounds on what the model may ask for.
        bind: extents of symbolic dimensions, by symbol or as `input:axis`; or the value of an integer input of
            one element, by its name, which makes it a constant.
        max: upper bounds of symbolic dimensions; recorded in `Graph.bounds`.
        overridable: inputs with an initializer that stay inputs; the others are constants.

    Returns:
        The graph; its constants may be mapped from files.

    Raises:
        CompileError: for whatever is wrong with the model, E01xx or E02xx.
    """
    return _load(read_source(source, limits), limits, bind, max, frozenset(overridable))


def _load(source: Source, limits: Limits, bind: Mapping[str, int], most: Mapping[str, int], overridable: frozenset[str]) -> Graph:
    model, name = upgrade_old(source.model, source.name), source.name
    opsets = read_opsets(model, name)
    reader = BodyReader(name, limits)
    main, library = reader.graph(model.graph), read_functions(model, reader, opsets)
    reader.finish()
    check_size(main, library, limits, name)
    check_operators(main, opsets, library, name)

    fixed = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    fixed -= overridable
    symbols = Symbols(name, limits, bind, most)
    types = symbols.read([value for value in model.graph.input if value.name not in fixed])
    budget = Budget(limits)
    tensors = TensorReader(ExternalData(source.folder, name), budget, name)
    graph = Importer(name, library, tensors, budget).main(main, opsets, types, symbols.values, symbols.forms)
    return dissolve_strings(dissolve_images(replace(graph, bounds=symbols.bounds, declared=_declared_shapes(model.graph.output))))


def _declared_shapes(outputs: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int | None, ...]]:
    """The shapes that a model declares for its outputs, as far as they are numbers."""
    given = {value.name: value.type.tensor_type.shape.dim for value in outputs if value.type.tensor_type.HasField("shape")}
    return {name: tuple(map(_extent, dims)) for name, dims in given.items()}


def _extent(declared: onnx.TensorShapeProto.Dimension) -> int | None:
    return declared.dim_value if declared.HasField("dim_value") and declared.dim_value >= 0 else None
