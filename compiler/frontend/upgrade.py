"""Models of opsets before 7, brought to opset 7 before anything else reads them.

Opset 7 changed how operands broadcast: before, a node said which axis of its first operand the second one
starts at, and a rule that needs ranks cannot be written for one node. The onnx package converts such
models as a whole; what its converter gets wrong is done here first: an operand that starts at an axis in
the middle (the converter stops), and the slope of PRelu, which belongs to axis 1 (it is left alone).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..diagnostics import CompileError, Loc
from .opsets import OLDEST

if TYPE_CHECKING:
    import onnx


def upgrade_old(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a model of opset 7 or newer; the model itself if it is one.

    Raises:
        CompileError: E0105 if a model of an older opset cannot be converted.
    """
    if all(entry.domain not in ("", "ai.onnx") or not 1 <= entry.version < OLDEST for entry in model.opset_import):
        return model
    import onnx.shape_inference
    import onnx.version_converter

    try:
        return onnx.version_converter.convert_version(_with_aligned_operands(model), OLDEST)
    except Exception as error:  # the package raises RuntimeError and its own classes, one for each kind of defect
        message = f"the model is of an opset before {OLDEST} and cannot be converted: {str(error).strip().partition(chr(10))[0]}"
        raise CompileError("E0105", message, Loc(name), "export the model for a newer opset") from error


def _with_aligned_operands(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with trailing axes of extent 1 on operands that broadcast from an axis in the middle."""
    import onnx.helper
    import onnx.shape_inference

    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = onnx.shape_inference.infer_shapes(model).graph
    ranks = {v.name: _rank(v) for v in (*types.value_info, *types.output, *types.input)}
    ranks.update({t.name: len(t.dims) for t in types.initializer})
    del result.graph.node[:]
    for old in model.graph.node:
        node = result.graph.node.add()
        node.CopyFrom(old)
        trailing = _trailing_axes(node, ranks)
        if trailing:
            result.graph.node.pop()
            spread = f"{node.output[0]}_operand"
            result.graph.node.append(onnx.helper.make_node("Unsqueeze", [node.input[1]], [spread], axes=trailing))
            node.input[1] = spread
            kept = [a for a in node.attribute if a.name != "axis"]
            del node.attribute[:]
            node.attribute.extend(kept)
            result.graph.node.append(node)
    return result


def _trailing_axes(node: onnx.NodeProto, ranks: dict[str, int | None]) -> list[int]:
    """The axes that the second operand of a node lacks at its end."""
    if len(node.input) != 2:
        return []
    rank, own = (ranks.get(operand) for operand in node.input)
    given = {a.name: a.i for a in node.attribute}
    is_slope = node.op_type == "PRelu" and own == 1
    if rank is None or own is None or not (is_slope or (given.get("broadcast") == 1 and "axis" in given)):
        return []
    start = given.get("axis", 1)
    start += rank if start < 0 else 0
    return list(range(own, rank - start))


def _rank(value: onnx.ValueInfoProto) -> int | None:
    return len(value.type.tensor_type.shape.dim) if value.type.tensor_type.HasField("shape") else None
