"""Graphs in ONNX files, ready to run: ONNX Runtime or OpenVINO behind one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch


# What decodes: torch from weights, the others from an exported graph.
BACKENDS = ("torch", "onnx", "openvino")


class Session(Protocol):
    """A graph that is ready to run.

    Attributes:
        path (`Path`): its file.
        precision (`str`, *optional*): in which it computes, where that is known to be another than the file's; once it
            has computed.
        inputs (`tuple[str, ...]`): names of what the file reads.
        outputs (`tuple[str, ...]`): names of what it computes.
    """

    path: Path
    precision: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        """Computes some outputs, by their names, from the inputs of those names, all on the CPU.

        Inputs that the graph does not have are left out.
        """


def open_session(path: Path, backend: str, threads: int) -> Session:
    """Reads a graph, which is compiled for some outputs when it is first asked for these: no copy waits in vain.

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
        with _whole_graph(path, backend):
            return kind(path, threads)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`backend: {backend}` needs {error.name}, which is not installed. Run `pip install hf_nat[{backend}]`."
        ) from error


@contextmanager
def _whole_graph(path: Path, backend: str) -> Iterator[None]:
    """Names a file that a library cannot load."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except Exception as error:  # Neither library raises anything narrower.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"`{path}` must be a whole ONNX graph, but {backend} cannot load it: {reason}") from error


class _Session:
    """What both libraries share: a compiled graph for each choice of outputs, which computes no other."""

    backend: str
    precision: str | None = None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self._compiled: dict[tuple[str, ...], Any] = {}

    def open(self, outputs: Sequence[str]) -> Any:
        """Returns the graph with these outputs alone, compiled at the first time."""
        key = tuple(outputs)
        if key not in self._compiled:
            with _whole_graph(self.path, self.backend):
                self._compiled[key] = self._compile(key)
        return self._compiled[key]

    def _compile(self, outputs: tuple[str, ...]) -> Any:
        raise NotImplementedError


class _OnnxSession(_Session):
    """ONNX Runtime, which computes all outputs of a file in any case."""

    backend = "onnx"

    def __init__(self, path: Path, threads: int) -> None:
        import onnx.utils
        import onnxruntime

        super().__init__(path, threads)
        self._runtime, self._load, self._extractor = onnxruntime, onnx.load, onnx.utils.Extractor
        graph = onnx.load(path, load_external_data=False).graph
        constants = {value.name for value in graph.initializer}
        self.inputs = tuple(value.name for value in graph.input if value.name not in constants)
        self.outputs = tuple(value.name for value in graph.output)

    def _compile(self, outputs: tuple[str, ...]) -> Any:
        file: Any = self.path
        if outputs != self.outputs:
            # Nodes that no output needs go with it: ONNX Runtime would execute them.
            extractor = self._extractor(self._load(self.path))
            file = extractor.extract_model(list(self.inputs), list(outputs)).SerializeToString()
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # errors
        # Its own arena doubles for a larger batch and never shrinks; the C library's allocator is as fast.
        options.enable_cpu_mem_arena = False
        # Its fusion of a sum with the normalisation of the result is slower than the two.
        return self._runtime.InferenceSession(
            file,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
        )

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        arrays = {name: inputs[name].numpy() for name in self.inputs}
        return [torch.from_numpy(value) for value in self.open(outputs).run(None, arrays)]


class _OpenVINOSession(_Session):
    """OpenVINO, with the precision that it chooses for this processor."""

    backend = "openvino"

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        super().__init__(path, threads)
        self._openvino = openvino
        model = openvino.Core().read_model(path)
        self.inputs = tuple(value.any_name for value in model.inputs)
        self.outputs = tuple(value.any_name for value in model.outputs)

    def _compile(self, outputs: tuple[str, ...]) -> Any:
        core = self._openvino.Core()
        model = core.read_model(self.path)
        kept = self._openvino.Model([model.output(name) for name in outputs], model.get_parameters())
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(kept, "CPU", settings)
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return compiled.create_infer_request()

    def __call__(self, outputs: Sequence[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
        request = self.open(outputs)
        request.infer({name: inputs[name].numpy() for name in self.inputs}, share_inputs=True)
        return [torch.from_numpy(request.get_tensor(name).data.copy()) for name in outputs]
