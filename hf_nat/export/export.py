"""From a checkpoint to graphs that decode without torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import GENERATION_CONFIG_NAME, logging

from ..base.folders import atomic_contents
from ..base.utils import environment, sha256_file, write_json
from ..data.locations import local_folder
from ..decoding import load_model
from ..decoding.exported import BESIDE_GRAPHS, GRAPHS, RECORD, graph_file, load_exported
from ..decoding.shortlist import ShortList, load_short_list
from ..models import NATPreTrainedModel
from .arguments import ExportArguments
from .graphs import DecodingGraph, EncoderGraph, Graph, StepGraph, save_graph
from .parity import compare, load_samples, require_parity
from .quantization import quantize_file


logger = logging.get_logger(__name__)


def export(args: ExportArguments) -> dict[str, Any]:
    """Writes a model's graphs, its tokenizer and its configuration, and compares what they decode with `generate`.

    Args:
        args (`ExportArguments`): model, folder and options.

    Returns:
        `dict[str, Any]`: the content of `onnx/export.json`: the graphs, the knobs that they keep, and the comparisons.

    Raises:
        ImportError: if a library of the extra `export` is missing.
        ValueError: if the model has no graph with these knobs, or its graph translates a sample otherwise.
    """
    require_libraries()
    model, tokenizer = load_model(args.model, device="cpu", dtype=torch.float32)
    require_exportable(model, args)
    samples = load_samples(args, model, tokenizer)
    plain = plain_knobs(model)
    expected = samples.decode(model, args.knobs | plain)
    # A short list may lack a word that the model would have written.
    short_list = load_short_list(args, model, tokenizer)
    listed = expected if short_list is None else samples.decode(model, args.knobs | plain | {"short_list": short_list})
    knobs = exported_knobs(model, args)
    record: dict[str, Any] = {
        "graphs": [],
        "knobs": fixed_knobs(model, knobs),
        "model_type": model.config.model_type,
        "shortlist": None if args.shortlist is None else [args.shortlist_best, args.shortlist_frequent],
        "quantization": args.quantization,
        "samples": samples.name,
        "split": samples.split,
        "parity": {},
        "environment": environment(),
    }
    with atomic_contents(args.output_dir, [GRAPHS]) as folder:
        save_around(model, tokenizer, knobs, folder)
        copy_others(args.model, folder)
        record["tokenizer_json"] = (folder / "tokenizer.json").is_file()
        if not record["tokenizer_json"]:
            logger.warning(
                f"{args.output_dir} has no tokenizer.json: a {type(tokenizer).__name__} reads SentencePiece models, "
                "and no such file gives the same ids for every text. The graph runs without torch, but its texts need "
                "transformers; the card says more."
            )
        record["graphs"] = save_graphs(model, args, short_list, folder)
        # Knobs may be tuned later.
        written = (
            path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != GENERATION_CONFIG_NAME
        )
        record["sha256"] = {path.relative_to(folder).as_posix(): sha256_file(path) for path in written}
        write_json(folder / GRAPHS / RECORD, record)
        for quantize in dict.fromkeys((None, args.quantize)):
            exported = load_exported(folder, backend="onnx", quantize=quantize)
            found = samples.decode(exported, plain)
            record["parity"][quantize or "float32"] = compare(samples, tokenizer, expected, found)
            if quantize is None:
                require_parity(listed, found, refines=not is_one_graph(model))
        write_json(folder / GRAPHS / RECORD, record)
    return record


def save_graphs(model: Any, args: ExportArguments, short_list: ShortList | None, folder: Path) -> list[str]:
    """Writes the graph of a model of one round, or the two of one that refines; returns their names."""
    settings = model._resolve_settings(None, args.knobs | plain_knobs(model))
    if is_one_graph(model):
        _save(DecodingGraph(model, settings, short_list), "model", args, folder)
        return ["model"]
    step = StepGraph(model, settings, short_list)
    read = _save(step, "step_model", args, folder)
    kept = {*read, "tokens", "scores", "finished"}
    state = tuple(name for name in step.state if name in kept)
    _save(EncoderGraph(model, settings, short_list, state), "encoder_model", args, folder)
    return ["encoder_model", "step_model"]


def _save(graph: Graph, name: str, args: ExportArguments, folder: Path) -> tuple[str, ...]:
    """Writes one graph in all precisions that are asked for; returns the names of its inputs."""
    path = folder / graph_file(name)
    inputs = save_graph(graph, path)
    if args.quantize is not None:
        quantize_file(path, folder / graph_file(name, args.quantize), **args.quantization)
    return inputs


def is_one_graph(model: Any) -> bool:
    """Tells whether a model decodes in a single round, so that one graph is all of it."""
    return model.iteration_limit == 1


def require_libraries() -> None:
    """Raises ImportError unless what an export needs is installed."""
    for package in ("onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise ImportError(
                f"An export needs {package}, which is not installed. Run `pip install hf_nat[export]`."
            ) from error


def require_exportable(model: PreTrainedModel, args: ExportArguments) -> None:
    """Raises ValueError unless there is a graph for a model and its knobs."""
    if not isinstance(model, NATPreTrainedModel):
        raise ValueError(
            f"`model` must be a NAT model, got a {type(model).__name__}. For a MarianMT teacher use CTranslate2."
        )
    architecture: Any = model
    architecture.require_knobs(args.knobs)
    settings = vars(architecture._resolve_settings(None, args.knobs))
    # Their steps depend on what they find, or on numbers that are drawn for a sentence.
    unsupported: dict[str, tuple[Any, ...]] = {"graph_decoding": ("greedy", "lookahead"), "num_samples": (1,)}
    if "graph_decoding" in settings:  # there others than the first are searched for
        unsupported["num_candidates"] = (1,)
    for name, allowed in unsupported.items():
        if name in settings and settings[name] not in allowed:
            raise ValueError(
                f"`{name}` must be {' or '.join(map(repr, allowed))} for a graph, got {settings[name]!r}. Change it "
                "in the model's generation_config.json, or use `backend: torch`."
            )


def exported_knobs(model: Any, args: ExportArguments) -> dict[str, Any]:
    """Returns the values of the knobs that an exported model decodes with by default."""
    settings = model._resolve_settings(None, args.knobs)
    names = [*(name for name in model.generation_defaults if name != "return_history"), "max_length"]
    return {name: getattr(settings, name) for name in names}


def fixed_knobs(model: Any, knobs: dict[str, Any]) -> dict[str, Any]:
    """Returns those of the knobs that are in the graphs for good: not those of a loop or a search around them."""
    free = model.search_knobs if is_one_graph(model) else ("max_iterations", "collapse_repeats")
    return {name: value for name, value in knobs.items() if name not in free}


def plain_knobs(model: Any) -> dict[str, Any]:
    """Returns the knobs of a search set so that there is none: what a graph does by itself."""
    return {name: model.generation_defaults[name] for name in model.search_knobs}


def save_around(model: Any, tokenizer: PreTrainedTokenizerBase, knobs: dict[str, Any], folder: Path) -> None:
    """Writes configuration, knobs and tokenizer."""
    # No code of the model is needed here.
    config = {key: value for key, value in model.config.to_diff_dict().items() if key != "auto_map"}
    write_json(folder / "config.json", config)
    for name, value in knobs.items():
        setattr(model.generation_config, name, value)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def copy_others(model: str, folder: Path) -> None:
    """Copies what a model's folder, or Hub id, says of its training, for the card of the graphs, and its n-grams.

    Args:
        model (`str`): the model that is exported; one that `hf-nat train` did not make says nothing.
        folder (`Path`): folder of the graphs.
    """
    source = local_folder(model, patterns=BESIDE_GRAPHS)
    for name in BESIDE_GRAPHS:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
