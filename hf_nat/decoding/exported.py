"""Exported models: the loop, the candidates and the re-ranking of a model whose network is a graph, or two."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from ..base.bounds import require_choice, require_number
from ..base.utils import check_record, read_record, sha256_file
from ..data.pretrained import load_generation_config, load_pretrained_config
from ..models import ARCHITECTURES, NATGenerateOutput, NATPreTrainedModel, NATState
from ..models.generation_output import choose_candidates, gather_rows, trim
from .language_model import LANGUAGE_MODEL_FILE
from .sessions import Session, open_session
from .shortlist import content_vocabulary


_REMEDY = "Export the model again."
# What is asked for of a round.
_STEP = ("next_tokens", "next_scores", "next_finished")
# What each graph must compute.
_OUTPUTS = {
    "model": ("sequences", "token_scores"),
    "encoder_model": ("encoder_hidden_states", "tokens", "scores", "finished"),
    "step_model": _STEP,
}
# What they may read, a round what the encoder has computed beside it.
_INPUTS = {"input_ids", "attention_mask"}
_STEP_INPUTS = {*_INPUTS, "iteration", "max_iterations"}
# Files of an exported model that no graph needs: how it was trained, and n-grams for a search.
BESIDE_GRAPHS = ("run.json", "metrics.json", LANGUAGE_MODEL_FILE)
# Folder of the graphs in an exported model, and the record beside them.
GRAPHS, RECORD = "onnx", "export.json"
PRECISIONS = ("int8",)
# What is read of an exported model: graphs, and beside them configurations and whatever its tokenizer has.
EXPORTED_FILES = (f"{GRAPHS}/*", "*.json", "*.spm", "*.model", "*.txt")


def graph_file(name: str, quantize: str | None = None) -> str:
    """Returns where a graph of an exported model lies in its folder."""
    return f"{GRAPHS}/{name}{'' if quantize is None else f'_{quantize}'}.onnx"


class _Exported:
    """What exported models share: no weights, on the CPU, and what they cannot do."""

    config: Any
    model: Any
    record: dict[str, Any]
    sessions: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return torch.device("cpu")

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the model, which stays on the CPU."""
        return self

    def generate(self: Any, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """See `NATGenerationMixin.generate`.

        Raises:
            ValueError: also if something is asked for that the graphs do not do.
        """
        for name in ("streamer", "terms", "short_list", "ensemble"):
            if kwargs.get(name) is not None and (name != "ensemble" or kwargs[name]):
                raise ValueError(f"`{name}` must be left out for an exported model. Use `backend: torch`.")
        source, positions = kwargs.get("input_ids", inputs), self.config.max_position_embeddings
        if source is not None and source.shape[1] > positions:
            raise ValueError(
                f"A sequence must have at most `max_position_embeddings` = {positions} tokens, got {source.shape[1]}. "
                "Truncate it."
            )
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def _resolve_settings(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> SimpleNamespace:
        """See `NATSettingsMixin._resolve_settings`; some knobs are in the graphs for good."""
        settings = super()._resolve_settings(generation_config, kwargs)  # type: ignore[misc]
        if settings.return_history:
            raise ValueError("`return_history` must be left out for an exported model. Use `backend: torch`.")
        for name, value in self.record["knobs"].items():
            if getattr(settings, name) != value:
                raise ValueError(
                    f"`{name}` must be {value!r}, with which the model was exported, got {getattr(settings, name)!r}. "
                    "Export the model with this value, an option of `hf-nat export` or, as `hf-nat tune` writes it, "
                    "in its generation_config.json; or use `backend: torch`."
                )
        return settings

    def _encode(self, *args: Any) -> tuple[torch.Tensor, ...]:
        """Leaves the encoder to the graph."""
        return ()


class _ExportedGraph(_Exported):
    """A model whose `generate` is one graph, but for a search among its frames."""

    @cached_property
    def vocabulary(self) -> torch.Tensor:
        """The tokens `(V',)` that a graph without a short list scores."""
        return content_vocabulary(self)

    def frame_logits(self: Any, state: NATState, is_frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `CTCNATGenerationMixin.frame_logits`.

        Raises:
            ValueError: if the graph does not compute them.
        """
        session = self.sessions["model"]
        _require_outputs(session, ("frame_logits",))
        # A graph with a short list says which tokens it scores.
        listed = tuple(name for name in session.outputs if name == "vocabulary")
        source = {"input_ids": state.input_ids, "attention_mask": state.attention_mask.long()}
        logits, *vocabularies = session(("frame_logits", *listed), **source)
        vocabulary = vocabularies[0] if listed else self.vocabulary
        return logits[:, : len(vocabulary)], vocabulary

    def _generate(
        self: Any,
        settings: SimpleNamespace,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        teacher: PreTrainedModel | None,
        *others: Any,
    ) -> NATGenerateOutput:
        """See `NATGenerationMixin._generate`."""
        if self._searches(settings):
            return super()._generate(settings, input_ids, attention_mask, teacher, *others)  # type: ignore[misc]
        if (settings.num_return_sequences or 1) > 1:
            raise ValueError("`num_return_sequences` must be left out for a model that is one graph, which chooses.")
        num_candidates = self._num_candidates(settings)
        names = ["sequences", "token_scores"]
        if teacher is not None and num_candidates > 1:
            names = ["candidates", "candidate_scores"]
        with_scores = settings.output_scores
        source = {"input_ids": input_ids, "attention_mask": attention_mask.long()}
        sequences, *scores = self.sessions["model"](names[: 1 + with_scores], **source)
        token_scores = scores[0] if scores else torch.zeros(sequences.shape)
        done = [(torch.arange(len(sequences)), sequences, token_scores, 1)]
        output = gather_rows(done, None, with_scores, self.config.pad_token_id)
        if teacher is not None:
            scores = self._teacher_scores(teacher, input_ids, attention_mask, output.sequences)
            output = choose_candidates(output, scores.view(len(input_ids), -1), 1)
        return trim(output, self.config.pad_token_id)


@dataclass(frozen=True, kw_only=True)
class _ExportedState(NATState):
    """Where the rounds of exported graphs stand, with the tensors `(R, ...)` that an architecture adds, by name."""

    others: dict[str, torch.Tensor]

    def select(self, rows: torch.Tensor) -> Self:
        others = {name: value[rows] for name, value in self.others.items()}
        return dataclasses.replace(super().select(rows), others=others)


class _ExportedRounds(_Exported):
    """A model whose encoder and whose round are graphs: the loop is that of every model."""

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> _ExportedState:
        """See `NATGenerationMixin.init_state`."""
        names = self.sessions["encoder_model"].outputs
        source = {"input_ids": input_ids, "attention_mask": attention_mask.long()}
        tensors = dict(zip(names, self.sessions["encoder_model"](names, **source), strict=True))
        rows = torch.arange(len(input_ids)).repeat_interleave(len(tensors["tokens"]) // len(input_ids))
        return _ExportedState(
            input_ids=input_ids[rows],
            attention_mask=source["attention_mask"][rows],
            members=members,
            encoder_hidden_states=(tensors.pop("encoder_hidden_states"),),
            tokens=tensors.pop("tokens"),
            scores=tensors.pop("scores"),
            finished=tensors.pop("finished"),
            max_iterations=settings.max_iterations,
            vocabulary=tensors.pop("vocabulary", None),
            others=tensors,
        )

    def refine(self, state: _ExportedState) -> _ExportedState:
        """See `NATGenerationMixin.refine`."""
        vocabulary = {} if state.vocabulary is None else {"vocabulary": state.vocabulary}
        tokens, scores, finished = self.sessions["step_model"](
            _STEP,
            input_ids=state.input_ids,
            attention_mask=state.attention_mask,
            encoder_hidden_states=state.encoder_hidden_states[0],
            tokens=state.tokens,
            scores=state.scores,
            finished=state.finished,
            iteration=torch.tensor(state.iteration),
            max_iterations=torch.tensor(state.max_iterations),
            **vocabulary,
            **state.others,
        )
        return dataclasses.replace(state, tokens=tokens, scores=scores, finished=finished)


def load_exported(
    path: str | Path,
    *,
    backend: str,
    quantize: str | None = None,
    threads: int | None = None,
    parameter: str = "model",
) -> PreTrainedModel:
    """Loads an exported model; its `generate` is that of the model it was made from.

    Args:
        path (`str` or `Path`): folder that `hf-nat export` has written.
        backend (`str`): `"onnx"` or `"openvino"`.
        quantize (`str`, *optional*): `"int8"` for the quantised graph, by default that in single precision.
        threads (`int`, *optional*): threads of one call, by default as many as torch uses.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.

    Returns:
        `PreTrainedModel`: a model of the architecture's class, without weights.

    Raises:
        FileNotFoundError: if there is no such graph.
        ImportError: if the library of the backend is not installed.
        ValueError: if a file is damaged, or there is no such precision, or not for the backend.
    """
    if quantize is not None:
        require_choice("quantize", quantize, PRECISIONS)
    if quantize is not None and backend != "onnx":
        raise ValueError(f"`quantize` must be left out for `backend: {backend}`, got {quantize!r}. Use `onnx`.")
    folder = Path(path)
    config = load_pretrained_config(folder, parameter=parameter)
    record_path = folder / GRAPHS / RECORD
    if not record_path.is_file():
        if config.model_type not in ARCHITECTURES:
            raise ValueError(
                f"`{parameter}` must be a NAT model for `backend: {backend}`, got the {config.model_type} model "
                f"`{folder}`, which is not exported. Use torch or CTranslate2."
            )
        raise FileNotFoundError(
            f"`{parameter}` must be an exported model for `backend: {backend}`, but `{folder}` has no "
            f"{GRAPHS}/{RECORD}. Run `hf-nat export --model {folder} --output_dir ...`."
        )
    require_number("threads", threads, least=1)
    record = read_record(record_path, {"graphs": list, "knobs": dict, "model_type": str, "sha256": dict})
    model_class = _class_of(record, config, record_path)
    _require_exported(folder, record, quantize)
    if not (folder / GENERATION_CONFIG_NAME).is_file():
        raise FileNotFoundError(f"There is no file `{folder / GENERATION_CONFIG_NAME}`. {_REMEDY}")
    sessions = _open_sessions(folder, record["graphs"], backend, quantize, threads or torch.get_num_threads())
    with torch.device("meta"):
        kind = _ExportedGraph if record["graphs"] == ["model"] else _ExportedRounds
        model: Any = type(model_class.__name__, (kind, model_class), {})(config)
    load_generation_config(model, folder, parameter=parameter)
    model.record, model.sessions = record, sessions
    return model.eval()


def _require_exported(folder: Path, record: dict[str, Any], quantize: str | None) -> None:
    """Raises unless graphs, configuration and tokenizer are those of the export that a record is of."""
    for file in (folder / graph_file(name, quantize) for name in record["graphs"]):
        if not file.is_file():
            hint = "" if quantize is None else f" with `--quantize {quantize}`"
            raise FileNotFoundError(f"There is no graph `{file}`. Export the model{hint}.")
        _require_sum(file, record["sha256"].get(file.relative_to(folder).as_posix()), "graph")
    # A search and the texts go by what is beside the graphs; what the card says of the training does not matter here.
    for name, digest in record["sha256"].items():
        if (folder / name).is_file() and Path(name).parent == Path() and name not in BESIDE_GRAPHS:
            _require_sum(folder / name, digest, name)


def _open_sessions(
    folder: Path, graphs: list[str], backend: str, quantize: str | None, threads: int
) -> dict[str, Session]:
    """Loads graphs, which must have the inputs and outputs that are expected of them."""
    files = {name: folder / graph_file(name, quantize) for name in graphs}
    sessions = {name: open_session(file, backend, threads) for name, file in files.items()}
    for name, session in sessions.items():
        _require_outputs(session, _OUTPUTS[name])
        known = _INPUTS if name != "step_model" else {*_STEP_INPUTS, *sessions["encoder_model"].outputs}
        if unknown := sorted(set(session.inputs) - known):
            raise ValueError(f"`{files[name]}` must read inputs out of {sorted(known)}, got {unknown}. {_REMEDY}")
    return sessions


def _require_sum(file: Path, digest: str | None, what: str) -> None:
    """Raises ValueError unless a file is the one that was exported."""
    if sha256_file(file) != digest:
        raise ValueError(
            f"`{file}` must be the {what} that was exported, but is not that of {GRAPHS}/{RECORD}: damaged, or of "
            f"another model. {_REMEDY}"
        )


def _require_outputs(session: Session, outputs: Sequence[str]) -> None:
    """Raises ValueError unless a graph computes some outputs."""
    if missing := [output for output in outputs if output not in session.outputs]:
        raise ValueError(f"`{session.path}` must compute {missing}, got {list(session.outputs)}. {_REMEDY}")


def _class_of(record: dict[str, Any], config: Any, path: Path) -> Any:
    """Returns the class of an exported model.

    Raises:
        ValueError: if the record is damaged, or not of a model with this configuration.
    """
    model_class: Any = ARCHITECTURES.get(config.model_type, (None, None))[1]
    if model_class is None or not issubclass(model_class, NATPreTrainedModel):
        raise ValueError(
            f"`model_type` of the config.json beside `{path.parent}` must be an architecture that has a graph, got "
            f"{config.model_type!r}. {_REMEDY}"
        )
    if record["model_type"] != config.model_type:
        raise ValueError(
            f"`model_type` of `{path}` must be that of the config.json beside `{path.parent}`, {config.model_type!r}, "
            f"got {record['model_type']!r}. {_REMEDY}"
        )
    graphs = ["model"] if getattr(model_class, "iteration_limit", None) == 1 else ["encoder_model", "step_model"]
    if record["graphs"] != graphs:
        raise ValueError(f"`graphs` of `{path}` must be {graphs}, got {record['graphs']!r:.100}. {_REMEDY}")
    knobs = sorted({*model_class.generation_defaults, "max_length"})
    for name in record["knobs"]:
        require_choice("knobs", name, knobs, where=f"in `{path}`", remedy=_REMEDY)
    if graphs == ["model"]:
        check_record(record["knobs"], {"max_iterations": int}, f"`knobs` of `{path}`")
    return model_class
