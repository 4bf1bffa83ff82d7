"""A graph of ONNX Runtime in a process of its own, whose memory nothing else moves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


CODE = """
import re, sys
from pathlib import Path
import torch
from hf_nat.decoding.sessions import open_session

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

session = open_session(Path(sys.argv[1]), "onnx", 1)
session(["sum"], size=torch.tensor([1000]))
small = resident()
assert session(["sum"], size=torch.tensor([50_000_000]))[0] == 0
print(resident() - small)
"""


@pytest.mark.slow
def test_a_large_batch_leaves_no_memory_behind(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Relu", ["zeros"], ["values"]),
        helper.make_node("ReduceSum", ["values"], ["sum"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("size", kind.INT64, [1])]
    outputs = [helper.make_tensor_value_info("sum", kind.FLOAT, [])]
    graph = helper.make_graph(nodes, "sum", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "x.onnx")
    done = subprocess.run([sys.executable, "-c", CODE, tmp_path / "x.onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000  # kB; the values are 200 MB
