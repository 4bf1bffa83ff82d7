"""Graphs in ONNX files, ready to run: ONNX Runtime or OpenVINO behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch


# What decodes: torch from weights, the others from an exported graph.
BACKENDS = ("torch", "onnx", "openvino")
# Inputs and outputs that the graph of every model has.
_NAMES = {"input_ids", "attention_mask", "sequences", "token_scores"}


class Session(Protocol):
    """A graph that is ready to run.

    Attributes:
        precision (`str`, *optional*): in which it computes, where that is known to be another than the file's.
        names (`set[str]`): its inputs and outputs.
    """

    precision: str | None
    names: set[str]

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        """Computes some outputs, by their names, from the inputs of those names, all on the CPU."""


def open_session(path: Path, backend: str, threads: int) -> Session:
    """Loads a graph.

    Args:
        path (`Path`): ONNX file.
        backend (`str`): `"onnx"` or `"openvino"`.
        threads (`int`): threads of one call.

    Raises:
        ImportError: if the library of the backend is not installed.
        ValueError: if the file is damaged, or the graph of something else.
    """
    kind: Any = {"onnx": _OnnxSession, "openvino": _OpenVINOSession}[backend]
    try:
        session = kind(path, threads)
    except ModuleNotFoundError as error:
        package = "onnxruntime" if backend == "onnx" else "openvino"
        raise ImportError(
            f"`backend: {backend}` needs {package}, which is not installed. Run `pip install hf_nat[{backend}]`."
        ) from error
    except Exception as error:  # Neither library raises anything narrower.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"`{path}` must be a whole ONNX graph, but {backend} cannot load it: {reason}") from error
    if lacking := sorted(_NAMES - session.names):
        raise ValueError(
            f"`{path}` must be the graph of a model, with {sorted(_NAMES)}, but it has no {', '.join(lacking)}. "
            "Export the model again."
        )
    return session


class _OnnxSession:
    """ONNX Runtime."""

    precision = None

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        # Its own arena doubles for a larger batch and never shrinks; the C library's allocator is as fast.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = {value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        # What leads to no output that is asked for is not computed.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return [torch.from_numpy(value) for value in self._session.run(list(outputs), arrays, self._run_options)]


class _OpenVINOSession:
    """OpenVINO, with the precision that it chooses for this processor."""

    precision: str | None

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.compile_model(path, "CPU", settings)
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.names = {name for port in (*compiled.inputs, *compiled.outputs) for name in port.names}
        self._request = compiled.create_infer_request()

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        self._request.infer({name: value.numpy() for name, value in inputs.items()}, share_inputs=True)
        return [torch.from_numpy(self._request.get_tensor(name).data.copy()) for name in outputs]
