"""From a checkpoint to graphs that decode without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..base.utils import atomic_contents, environment, write_json
from ..decoding import load_model
from ..decoding.exported import GRAPHS, RECORD, graph_file, load_exported
from ..models import NATPreTrainedModel
from .arguments import ExportArguments
from .graphs import DecodingGraph, content_vocabulary, save_graph
from .parity import compare, load_samples
from .quantization import quantize_file
from .shortlist import ShortList, build_short_list


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
    expected = samples.decode(model, args.knobs)
    knobs = exported_knobs(model, args)
    record: dict[str, Any] = {
        "graphs": ["model"],
        "knobs": knobs,
        "model_type": model.config.model_type,
        "shortlist": None if args.shortlist is None else [args.shortlist_best, args.shortlist_frequent],
        "parity": {},
        "environment": environment(),
    }
    settings: Any = model
    graph = DecodingGraph(model, settings._resolve_settings(None, args.knobs), load_short_list(args, model, tokenizer))
    with atomic_contents(args.output_dir, [GRAPHS]) as folder:
        save_around(model, tokenizer, knobs, folder)
        record["tokenizer_json"] = (folder / "tokenizer.json").is_file()
        if not record["tokenizer_json"]:
            logger.warning(
                f"{args.output_dir} has no tokenizer.json: a {type(tokenizer).__name__} reads SentencePiece models, "
                "and no such file gives the same ids for every text. The graph runs without torch, but its texts need "
                "transformers; the card says more."
            )
        path = folder / graph_file("model")
        save_graph(graph, example_source(model), path)
        if args.quantize is not None:
            quantize_file(path, folder / graph_file("model", args.quantize))
        write_json(folder / GRAPHS / RECORD, record)
        for quantize in dict.fromkeys((None, args.quantize)):
            exported = load_exported(folder, backend="onnx", quantize=quantize)
            found = compare(samples, tokenizer, expected, samples.decode(exported, {}))
            record["parity"][quantize or "float32"] = found
            # A short list may lack a word that the model would have written.
            if quantize is None and args.shortlist is None and found["num_equal"] < found["num_sentences"]:
                raise ValueError(
                    f"The graph must translate every sample as the model does, but of {found['num_sentences']} "
                    f"{found['num_sentences'] - found['num_equal']} differ."
                )
        write_json(folder / GRAPHS / RECORD, record)
    return record


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
    if not architecture.is_traceable:
        raise ValueError(
            f"`model` must be of an architecture that has a graph, got a {type(model).__name__}. Use `backend: torch` "
            "for it."
        )
    settings = vars(architecture._resolve_settings(None, args.knobs))
    # Their steps depend on what they find.
    unsupported = {"ctc_beam_size": (1,), "graph_decoding": ("greedy", "lookahead"), "num_candidates": (1,)}
    for name, allowed in {**unsupported, "num_samples": (1,)}.items():
        if name in settings and settings[name] not in allowed:
            raise ValueError(
                f"`{name}` must be {' or '.join(map(repr, allowed))} for a graph, got {settings[name]!r}. Change it "
                "in the model's generation_config.json, or use `backend: torch`."
            )


def load_short_list(
    args: ExportArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> ShortList | None:
    """Makes the short list that the arguments ask for."""
    rows = args.load_shortlist()
    if rows is None:
        return None
    if not len(rows):
        raise ValueError(f"`shortlist` must be a corpus with at least 1 pair, got {args.shortlist!r} with 0.")
    config: Any = model.config
    blank = getattr(config, "blank_token_id", None)
    return build_short_list(
        ((pair[args.source_lang], pair[args.target_lang]) for pair in rows["translation"]),
        tokenizer,
        content_vocabulary(model).tolist(),
        config.vocab_size,
        num_best=args.shortlist_best,
        num_frequent=args.shortlist_frequent,
        kept=[] if blank is None else [blank],
    )


def exported_knobs(model: Any, args: ExportArguments) -> dict[str, Any]:
    """Returns the values of the knobs that a graph keeps."""
    settings = model._resolve_settings(None, args.knobs)
    names = [*(name for name in model.generation_defaults if name != "return_history"), "max_length"]
    return {name: getattr(settings, name) for name in names}


def save_around(model: Any, tokenizer: PreTrainedTokenizerBase, knobs: dict[str, Any], folder: Path) -> None:
    """Writes configuration, knobs and tokenizer."""
    # No code of the model is needed here.
    config = {key: value for key, value in model.config.to_diff_dict().items() if key != "auto_map"}
    write_json(folder / "config.json", config)
    for name, value in knobs.items():
        setattr(model.generation_config, name, value)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def example_source(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns two sources of different lengths, for the trace: ids and mask `[2, 5]`."""
    word, eos, pad = 3, model.config.eos_token_id, model.config.pad_token_id
    input_ids = torch.tensor([[word, word, word, word, eos], [word, word, eos, pad, pad]])
    return input_ids, input_ids.ne(pad).long()
