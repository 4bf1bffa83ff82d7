"""Translates a test split and scores it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_number
from ..base.config import option, refuse_changed
from ..base.files import atomic_path
from ..base.processes import process_state
from ..base.reporting import plot_reliability
from ..base.utils import environment, write_json
from ..data.arguments import CorpusArguments, first_rows
from ..data.several import corpus_place
from ..decoding import DecodingArguments, DraftCounts, Translation, translate
from ..decoding.shortlist import ShortListArguments
from ..metrics.external import ExternalMetric, external_identity, load_external_metric
from ..metrics.sentence_statistics import bleu_record
from ..metrics.translation import (
    DEFAULT_METRICS,
    METRICS,
    MetricScore,
    metric_recipes,
    require_bootstrap,
    score_translations,
)
from .confidence import measure_calibration, read_calibration, tuned_knobs, way_of_decoding
from .errors import translation_errors


IDENTIFYING_KEYS = ("model", "corpus", "config_name", "split", "source_lang", "target_lang")


@dataclass(frozen=True, kw_only=True)
class SplitArguments(CorpusArguments, ShortListArguments):
    """Which model translates which split of which corpus, by which short list.

    Raises:
        ValueError: if a size is below 1, or as [`ShortListArguments`].
    """

    model: str = field(metadata={"help": "checkpoint folder or Hub id"})
    split: str = option("test", "split to translate")
    max_samples: int | None = option(None, "translate only the first sentences")

    def __post_init__(self) -> None:
        super().__post_init__()
        ShortListArguments.__post_init__(self)
        require_number("max_samples", self.max_samples, least=1)

    def load_rows(self) -> Dataset:
        """Loads the rows that are translated."""
        return first_rows(self.load(self.split), self.max_samples)


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(SplitArguments):
    """Which model is scored on which split, by which metrics, and where the result goes."""

    metrics: list[str] = field(
        default_factory=lambda: list(DEFAULT_METRICS), metadata={"help": f"out of {', '.join(METRICS)}"}
    )
    modules: list[str] = field(
        default_factory=list,
        metadata={
            "help": "further metrics: folders of `evaluate` modules (COMET, MetricX, your own), which are run; names "
            "on the Hub with `trust_remote_code`"
        },
    )
    module_options: dict[str, dict[str, Any]] | None = option(
        None, "arguments for the `compute` of a module, by the name of its folder: {comet: {progress_bar: true}}"
    )
    num_bootstrap: int = option(0, "samples of the bootstrap that gives the interval of each score; 0 for none")
    beer_model: str | None = option(None, "folder of a trained BEER model, for the metric `beer`")
    training_corpus: str | None = option(
        None, "what the model learned from, CORPUS or CORPUS#CONFIG: gives rates of unknown and dropped words"
    )
    training_split: str = option("train", "split of it")

    output_dir: str | None = option(None, "folder of metrics.json and translations.txt; default: MODEL/eval-SPLIT")

    def __post_init__(self) -> None:
        super().__post_init__()
        # What is wrong is an error now, not after an hour of translation.
        metric_recipes(self.metrics, self.scoring["options"] if "beer" in self.metrics else None)
        require_bootstrap(self.num_bootstrap)
        self._check_modules()
        if self.training_corpus is None:
            refuse_changed(self, ("training_split",), "without `training_corpus`")
        if "beer" not in self.metrics:
            refuse_changed(self, ("beer_model",), "without the metric `beer`", "Add it to `metrics`.")

    def _check_modules(self) -> None:
        names = [Path(module).stem for module in self.modules]
        taken = [name for number, name in enumerate(names) if name in (*self.metrics, *names[:number])]
        if taken:
            raise ValueError(
                f"`modules` must have names of their own, other than those of `metrics`, got {taken[0]!r} twice. Give "
                "the folder another name."
            )
        unused = [name for name in self.module_options or {} if name not in names]
        if unused:
            raise ValueError(f"`module_options` must name modules out of {names}, got {unused[0]!r}.")

    def load_modules(self, trust_remote_code: bool) -> dict[str, ExternalMetric]:
        """Loads the further metrics by their names, which runs their code.

        Raises:
            ValueError: as `load_external_metric`.
        """
        given = self.module_options or {}
        options: dict[str, Any] = {"parameter": "modules", "trust_remote_code": trust_remote_code}
        return {
            name: load_external_metric(module, given.get(name), **options)
            for module in self.modules
            for name in [Path(module).stem]
        }

    @property
    def folder(self) -> Path:
        """Where the result goes.

        Raises:
            ValueError: if `output_dir` is missing for a model that is no local folder, or brings a link there.
        """
        if self.output_dir is not None:
            return Path(self.output_dir)
        if not Path(self.model).is_dir():
            raise ValueError(f"`output_dir` must be given for a model that is no local folder, got {self.model!r}.")
        folder = Path(self.model) / f"eval-{self.split}"
        if folder.is_symlink():
            raise ValueError(f"`output_dir` must be given where {str(folder)!r} is a link, which may lead anywhere.")
        return folder

    def load_training_rows(self) -> Dataset | None:
        """Loads what the model learned from, None where it is not given."""
        if self.training_corpus is None:
            return None
        return CorpusArguments(**corpus_place(self.training_corpus), **self.languages).load_pairs(self.training_split)

    @property
    def scoring(self) -> dict[str, Any]:
        """Arguments of `score_translations`."""
        options = {"beer": {"model_dir": self.beer_model}} if self.beer_model is not None else None
        return {"metrics": self.metrics, "num_bootstrap": self.num_bootstrap, "options": options}


def evaluate(args: EvaluateArguments, decoding: DecodingArguments | None = None) -> dict[str, Any]:
    """Translates a split, scores the translations and writes `metrics.json` and `translations.txt` (one a line).

    The processes of a launcher share the sentences out; the main one writes.

    Args:
        args (`EvaluateArguments`): model and corpus.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default greedily, as its checkpoint says.

    Returns:
        `dict[str, Any]`: the content of metrics.json: the scores with their signatures (0-100, those of `modules` on
        the scale of their authors; BLEU with the statistics of each sentence), sentences per second
        (loading left out), mean number of rounds of a NAT model, how far drafts went (see `DraftCounts`), and what
        they were measured with.

    Raises:
        ValueError: if a decoding option does not belong to the kind of model, or `output_dir` is missing for a model
            that is no local folder.
    """
    folder = args.folder  # Where there is none, that is an error now.
    decoding = decoding or DecodingArguments()
    modules = args.load_modules(decoding.trust_remote_code)
    model, tokenizer = decoding.load_model(args.model)
    generate_kwargs = decoding.generate_kwargs(model)
    generate_kwargs |= args.short_list_kwargs(model, tokenizer)
    training_rows = args.load_training_rows()
    pairs = load_pairs(args)
    way = way_of_decoding(decoding, model, args)
    calibration = read_calibration(args.model, way)
    with_scores = calibration is not None
    translations, measurements = measure(
        model, tokenizer, pairs, args, args.scoring, with_scores=with_scores, **generate_kwargs
    )
    if not process_state().is_main_process:
        return measurements
    sources, references = ([pair[lang] for pair in pairs] for lang in (args.source_lang, args.target_lang))
    texts = [translation.text for translation in translations]
    # Kept before modules of the user's and an alignment may fail; what other translations scored goes first.
    (folder / "metrics.json").unlink(missing_ok=True)
    with atomic_path(folder / "translations.txt") as temporary:
        temporary.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    measurements["scores"] |= {
        name: {"score": metric.score(sources, texts, references), "signature": _module_signature(metric)}
        for name, metric in modules.items()
    }
    errors = translation_errors(sources, references, texts, training_rows=training_rows, **args.languages)
    measured = calibration and measure_calibration(calibration, translations, references, args.target_lang)
    metrics = {
        **{key: getattr(args, key) for key in IDENTIFYING_KEYS},
        **measurements,
        "error_rates": errors,
        "reliability": measured and asdict(measured),
        "num_parameters": model.num_parameters(),
        "decoding": {
            **tuned_knobs(model, way),
            **decoding.options(model),
            **decoding.input_options,
            **decoding.runtime_options,
            **args.shortlist_options,
            "max_batch_tokens": decoding.max_batch_tokens,
        },
        **decoding.code_record(args.model),
        "num_processes": process_state().num_processes,
        "environment": environment(),
    }
    plot = folder / "reliability.png"
    if metrics["reliability"] is None:
        plot.unlink(missing_ok=True)  # Of the curve that the model had before.
    else:
        plot_reliability(plot, metrics["reliability"])
    write_json(folder / "metrics.json", metrics)
    return metrics


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[dict[str, str]],
    args: SplitArguments,
    scoring: Mapping[str, Any] | None = None,
    **generate_kwargs: Any,
) -> tuple[list[Translation], dict[str, Any]]:
    """Translates the sources of pairs, shared out over all processes, and scores the translations against the targets.

    Args:
        model (`PreTrainedModel`): the model.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        pairs (`Sequence[dict[str, str]]`): texts by language.
        args (`SplitArguments`): the languages.
        scoring (`Mapping[str, Any]`, *optional*): metrics and other arguments of `score_translations`.
        **generate_kwargs: see `translate`.

    Returns:
        `tuple[list[Translation], dict[str, Any]]`: translations, and the measurements that metrics.json holds.
    """
    started = time.perf_counter()
    sources = [pair[args.source_lang] for pair in pairs]
    translations = translate(model, tokenizer, sources, progress=True, shared=True, **generate_kwargs)
    seconds = time.perf_counter() - started
    texts = [translation.text for translation in translations]
    references = [pair[args.target_lang] for pair in pairs]
    scores = score_translations(texts, references, target_lang=args.target_lang, **(scoring or {}))
    entries = {name: _entry(score) for name, score in scores.items() if score.reason is None}
    if "bleu" in entries:
        # What a paired test over sentences and seeds needs of this system, long after its translations are gone.
        entries["bleu"]["sentence_statistics"] = bleu_record(scores["bleu"].statistics)
    drafting = DraftCounts().add(translations).means()
    rounds = [translation.iterations for translation in translations if translation.iterations is not None]
    return translations, {
        "num_sentences": len(pairs),
        "num_truncated": sum(translation.truncated for translation in translations),
        "scores": entries,
        "without_score": {name: score.reason for name, score in scores.items() if score.reason is not None},
        "seconds": round(seconds, 3),
        "sentences_per_second": round(len(pairs) / seconds, 3),
        "iterations_mean": sum(rounds) / len(rounds) if rounds else None,
        **({} if drafting is None else {"drafting": drafting}),
    }


def _entry(score: MetricScore) -> dict[str, Any]:
    """Returns what metrics.json holds of a score."""
    interval = {} if score.interval is None else {"interval": list(score.interval)}
    return {"score": score.score, "signature": score.signature, **interval}


def _module_signature(metric: ExternalMetric) -> str:
    """Names a module, its options and the SHA-256 of its files, cut to 16 digits."""
    files = [f"{name}:{digest[:16]}" for name, digest in external_identity(metric.name).items()]
    options = [f"{name}:{value}" for name, value in metric.options.items()]
    versions = f"evaluate:{metadata.version('evaluate')}"
    return "|".join([f"evaluate module {Path(metric.name).name}", *options, *files, versions])


def load_pairs(args: SplitArguments) -> list[dict[str, str]]:
    """Returns the texts of a split by language, in their order."""
    with process_state().main_process_first():
        rows = args.load_rows()
    return rows["translation"][:]
