"""Weights in 8 bits, by ONNX Runtime's tools."""

from __future__ import annotations

import logging
from pathlib import Path


def quantize_file(source: Path, target: Path, *, embeddings: bool = True, reduce_range: bool = False) -> None:
    """Writes a graph with weights in 8 bits; activations are quantised as they come.

    A matrix has a scale for each column, an embedding one for the whole table: ONNX Runtime knows no other.

    Args:
        source (`Path`): ONNX file in single precision.
        target (`Path`): the new file.
        embeddings (`bool`, *optional*, defaults to `True`): in 8 bits also the embeddings and what scores words, or
            lengths, for a position.
        reduce_range (`bool`, *optional*, defaults to `False`): 7 bits of a matrix in place of 8. Processors with AVX2
            and without VNNI add two products in 16 bits, where larger ones are cut off.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    # A vector has no columns, and ONNX Runtime cannot multiply by one in 8 bits.
    vectors = {value.name for value in graph.initializer if len(value.dims) == 1}
    excluded = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in vectors]
    if not embeddings:
        # ONNX Runtime makes a `MatMul` of each before all else.
        excluded += [f"{node.name}_MatMul" for node in graph.node if node.op_type == "Gemm"]
    # It advises a step that the export has done.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm", *(["Gather"] if embeddings else [])],
            nodes_to_exclude=excluded,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)
