"""Weights in 8 bits, by ONNX Runtime's tools."""

from __future__ import annotations

import logging
from pathlib import Path


# What has weights: the layers and the output projection, and the embedding.
_QUANTIZED = ["MatMul", "Gemm", "Gather"]


def quantize_file(source: Path, target: Path) -> None:
    """Writes a graph with weights in 8 bits, a scale for each column; activations are quantised as they come.

    Args:
        source (`Path`): ONNX file in single precision.
        target (`Path`): the new file.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    # A vector has no columns, and ONNX Runtime cannot multiply by one in 8 bits.
    vectors = {value.name for value in graph.initializer if len(value.dims) == 1}
    excluded = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in vectors]
    # It advises a step that the export has done.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=excluded,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)
