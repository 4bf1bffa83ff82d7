"""Graphs in ONNX files, ready to run: ONNX Runtime or OpenVINO behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch


# What decodes: torch from weights, the others from an exported graph.
BACKENDS = ("torch", "onnx", "openvino")


class Session(Protocol):
    """A graph that is ready to run.

    Attributes:
        precision (`str`, *optional*): in which it computes, where that is known to be another than the file's.
    """

    precision: str | None

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        """Computes some outputs, by their names, from the inputs of those names, all on the CPU.

        Inputs that the graph does not have are left out.
        """


def open_session(path: Path, backend: str, threads: int) -> Session:
    """Loads a graph.

    Args:
        path (`Path`): ONNX file.
        backend (`str`): `"onnx"` or `"openvino"`.
        threads (`int`): threads of one call.

    Raises:
        ImportError: if the library of the backend is not installed.
        ValueError: if the file is damaged.
    """
    kind: Any = {"onnx": _OnnxSession, "openvino": _OpenVINOSession}[backend]
    try:
        return kind(path, threads)
    except ModuleNotFoundError as error:
        package = "onnxruntime" if backend == "onnx" else "openvino"
        raise ImportError(
            f"`backend: {backend}` needs {package}, which is not installed. Run `pip install hf_nat[{backend}]`."
        ) from error
    except Exception as error:  # Neither library raises anything narrower.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"`{path}` must be a whole ONNX graph, but {backend} cannot load it: {reason}") from error


class _OnnxSession:
    """ONNX Runtime."""

    precision = None

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        # Its fusion of a sum and the normalisation of its result is slower than the two.
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )
        self._names = [value.name for value in self._session.get_inputs()]
        # What leads to no output that is asked for is not computed.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        arrays = {name: inputs[name].numpy() for name in self._names}
        return [torch.from_numpy(value) for value in self._session.run(list(outputs), arrays, self._run_options)]


class _OpenVINOSession:
    """OpenVINO, with the precision that it chooses for this processor."""

    precision: str | None

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.compile_model(path, "CPU", settings)
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self._names = [value.any_name for value in compiled.inputs]
        self._request = compiled.create_infer_request()

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        self._request.infer({name: inputs[name].numpy() for name in self._names}, share_inputs=True)
        return [torch.from_numpy(self._request.get_tensor(name).data.copy()) for name in outputs]
