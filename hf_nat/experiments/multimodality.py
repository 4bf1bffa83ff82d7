"""One source, targets in three languages: which of these modes do models choose?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers.utils import logging

from ..analysis import AlignedCorpus, MeasureArguments, measure_corpus
from ..config import load_config, option
from ..data import concatenate_targets, corpus_tokens, load_corpus, select_targets, tokenize
from ..data.multi_target import MULTI_TARGET_LANG
from ..distillation import DistillArguments
from ..inference import load_model, process_state, translate
from ..metrics import LanguagePosterior, concentration
from ..utils import atomic_path, environment, read_json, write_json
from .multimodality_report import write_multimodality_report
from .stages import (
    begin_study,
    distill_once,
    distilled_options,
    entry_options,
    load_training,
    parse_entries,
    read_configs,
    real_splits,
    teacher_decoding,
    train_once,
)


logger = logging.get_logger(__name__)

CONCATENATED, RANDOM, DISTILLED = "concatenated", "random selection", "distilled"
_NUM_EXAMPLES = 5


@dataclass
class MultimodalityArguments:
    """Which languages are the modes, and which models learn them.

    `models` holds two entries, `teacher` and `student`: the YAML file of `hf-nat train` under `config`, and keys that
    take the place of its own; `init_from_teacher: teacher` starts the student from the teacher of this study.

    Raises:
        ValueError: if there are not three target languages, or not these two models.
    """

    output_dir: str = field(metadata={"help": "folder of the corpora, the models and the report"})
    distill_config: str = field(metadata={"help": "YAML of `hf-nat distill`: the real corpus, and how to decode it"})
    target_langs: list[str] = field(metadata={"help": "keys of the three target languages"})
    models: dict | str | None = field(metadata={"help": "{teacher: {config: YAML, key: value, ...}, student: ...}"})
    distill_options: list[str] = field(
        default_factory=list, metadata={"help": "keys of the distillation's YAML that differ, each as KEY=VALUE"}
    )
    words: str = option("moses", "words of the measures: moses (lower-cased, by language) or space")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the intervals; 0 for none")
    seed: int = option(1, "seed of the random selection and the bootstrap")

    def __post_init__(self) -> None:
        if len(set(self.target_langs)) != 3 or len(self.target_langs) != 3:
            raise ValueError(f"`target_langs` must be three languages, a simplex's corners, got {self.target_langs}.")
        self.models = parse_entries("models", self.models, "config")
        if set(self.models) != {"teacher", "student"}:
            raise ValueError(f"`models` must be `teacher` and `student`, got {sorted(self.models)}.")
        if self.words not in ("moses", "space"):
            raise ValueError(f"`words` must be 'moses' or 'space', got {self.words!r}.")

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        return Path(self.output_dir)

    def distillation(self) -> DistillArguments:
        """Returns the distillation of the sources, once each, by the teacher."""
        places: dict[str, Any] = {
            "teacher": str(self.folder / "teacher"),
            "corpus": str(self.corpus_dir(RANDOM)),
            "target_lang": MULTI_TARGET_LANG,
            "config_name": None,
            "train_split": "train",
            "validation_split": "validation",
            "test_split": "test",
            "output_dir": str(self.corpus_dir(DISTILLED)),
        }
        return replace(self.real(), **places)

    def real(self) -> DistillArguments:
        """Returns the distillation as it is given: it names the real corpus and its splits."""
        options = [f"--{given}" for given in self.distill_options]
        (args,) = load_config((DistillArguments,), [self.distill_config, *options])
        return args

    def corpus_dir(self, name: str) -> Path:
        """Returns the folder of one of the three corpora that models learn."""
        return self.folder / "corpora" / name.replace(" ", "_")

    def entry(self, name: str) -> dict[str, Any]:
        """Returns the keys of the teacher or the student."""
        models: Any = self.models
        return models[name]

    def check(self) -> None:
        """Reads all that will be run, so that a wrong key is an error before the first training, not after it.

        Raises:
            ValueError: if a key is unknown, or a split is left out.
        """
        self.distillation()
        real_splits(self.real())
        for name in ("teacher", "student"):
            load_training(self.entry(name)["config"], *entry_options(self.entry(name)))

    def settings(self) -> dict[str, Any]:
        """Returns all that the results depend on: the keys, and what the YAML files say."""
        own = {key: value for key, value in asdict(self).items() if key != "output_dir"}
        files = [self.distill_config, *(self.entry(name)["config"] for name in ("teacher", "student"))]
        return own | {"configs": read_configs(*files)}


def multimodality(args: MultimodalityArguments) -> Path:
    """Which of three target languages AT and NAT models choose (Figure 1, Table 1).

    An AT model and a NAT model learn all pairs of three target languages, with nothing that tells the language. Two
    more NAT models learn corpora with fewer modes: a random language for each source, and what the AT model writes.
    All translate the validation and test sources; each output is a point in the simplex of the three languages.

    Args:
        args (`MultimodalityArguments`): languages and models.

    Returns:
        `Path`: the HTML report. `multimodality.json` holds its numbers, `corpora`, `teacher` and `students` what was
        made, `outputs` the translations, `measures` tokens and links. A killed run goes on where it stopped.

    Raises:
        ValueError: if the folder was begun with other settings, or the corpora have different sources.

    Source: Zhou, Gu & Neubig 2020, section 3.1.
    """
    folder, state = args.folder, process_state()
    args.check()
    begin_study(folder, args.settings())
    if state.is_main_process:
        _write_corpora(args)
    state.wait_for_everyone()
    models = {"AT": _train(args, "teacher", CONCATENATED, folder / "teacher")}
    logger.info(f"--- Corpus {DISTILLED}")
    distill_once(args.distillation())
    for corpus in (CONCATENATED, RANDOM, DISTILLED):
        path = folder / "students" / corpus.replace(" ", "_")
        models[f"NAT, {corpus}"] = _train(args, "student", corpus, path)
    outputs = {name: _outputs(args, name, path) for name, path in models.items()}
    if state.is_main_process:
        posterior = _posterior(args)
        references = _rows(args, CONCATENATED, ("validation", "test"))
        texts = {"real targets": list(_texts(references, MULTI_TARGET_LANG)), **outputs}
        pieces = {name: list(tokenize(lines, str(folder / "teacher"))) for name, lines in texts.items()}
        points = {name: posterior(found) for name, found in pieces.items()}
        results = {
            "settings": args.settings(),
            "systems": [
                {"name": name, **_system(args, found), "unknown_share": posterior.unknown_share(pieces[name])}
                for name, found in points.items()
            ],
            "corpora": list(_measures(args, posterior)),
            "examples": _examples(args, outputs),
            "environment": environment(),
        }
        write_json(folder / "multimodality.json", results)
        write_multimodality_report(folder, results, points)
    state.wait_for_everyone()
    return folder / "report.html"


def _write_corpora(args: MultimodalityArguments) -> None:
    """Writes the concatenated corpus and the random selection, in Hub layout."""
    real = args.real()
    splits = {"train": real.train_split, **real_splits(real)}
    for split, name in splits.items():
        given = (real.corpus, real.source_lang, args.target_langs, name)
        for corpus in (CONCATENATED, RANDOM):
            path = args.corpus_dir(corpus) / "data" / f"{split}-00000-of-00001.parquet"
            if not path.is_file():
                rows = select_targets(*given, args.seed) if corpus == RANDOM else concatenate_targets(*given)
                with atomic_path(path) as temporary:
                    rows.to_parquet(temporary)


def _rows(args: MultimodalityArguments, corpus: str, splits: Sequence[str]) -> Dataset:
    """Returns the rows of some splits of a corpus."""
    source_lang = args.real().source_lang
    loaded: list[Any] = [
        load_corpus(args.corpus_dir(corpus), split, source_lang=source_lang, target_lang=MULTI_TARGET_LANG)
        for split in splits
    ]
    return concatenate_datasets(loaded)


def _by_language(args: MultimodalityArguments) -> dict[str, Dataset]:
    """Parts the training pairs of all languages; they are stored one language after the other."""
    rows = _rows(args, CONCATENATED, ["train"])
    size = len(rows) // len(args.target_langs)
    return {lang: rows.select(range(i * size, (i + 1) * size)) for i, lang in enumerate(args.target_langs)}


def _texts(rows: Dataset, lang: str) -> Iterator[str]:
    return (row["translation"][lang] for row in rows.select_columns("translation"))


def _train(args: MultimodalityArguments, entry: str, corpus: str, path: Path) -> Path:
    """Trains the teacher or a student on a corpus."""
    logger.info(f"--- {entry.capitalize()} on {corpus}")
    keys, teacher = args.entry(entry), args.folder / "teacher"
    tokenizer = teacher if entry == "student" else None
    options = [*entry_options(keys), *distilled_options(args.distillation(), args.corpus_dir(corpus), tokenizer)]
    if keys.get("init_from_teacher") == "teacher":
        options.append(f"--init_from_teacher={teacher}")
    return train_once(keys["config"], *options, f"--output_dir={path}")


def _outputs(args: MultimodalityArguments, name: str, model: Path) -> list[str]:
    """Translates the validation and test sources."""
    path = args.folder / "outputs" / f"{name.replace(', ', '_').replace(' ', '_')}.json"
    state = process_state()
    if not path.is_file():
        logger.info(f"--- Outputs of {name}")
        distill_args = args.distillation()
        sources = list(_texts(_rows(args, RANDOM, ("validation", "test")), distill_args.source_lang))
        loaded, tokenizer = load_model(model)
        kwargs = teacher_decoding(distill_args).generate_kwargs(loaded) if name == "AT" else {}
        found = translate(loaded, tokenizer, sources, progress=True, shared=True, **kwargs)
        if state.is_main_process:
            write_json(path, [translation.text for translation in found])
    state.wait_for_everyone()
    return json.loads(path.read_text(encoding="utf-8"))


def _posterior(args: MultimodalityArguments) -> LanguagePosterior:
    """Counts the tokens of the training targets of each language, in the teacher's pieces."""
    tokens = str(args.folder / "teacher")
    return LanguagePosterior.from_corpora(
        {lang: corpus_tokens(rows, MULTI_TARGET_LANG, tokens) for lang, rows in _by_language(args).items()}
    )


def _system(args: MultimodalityArguments, points: np.ndarray) -> dict[str, Any]:
    """Says how concentrated the outputs of a model are, and in which languages."""
    value, interval = concentration(points, num_bootstrap=args.num_bootstrap, seed=args.seed)
    chosen = points.argmax(axis=1)
    shares = {lang: float((chosen == i).mean()) for i, lang in enumerate(args.target_langs)}
    return {
        "num_sentences": len(points),
        "concentration": value,
        "concentration_interval": interval,
        "languages": shares,
    }


def _measures(args: MultimodalityArguments, posterior: LanguagePosterior) -> Iterator[dict[str, Any]]:
    """Measures pair by pair, all together, the selection and the distilled corpus, in words and in pieces."""
    source_lang, pieces = args.real().source_lang, str(args.folder / "teacher")
    distilled = _rows(args, DISTILLED, ["train"])
    chosen = posterior(corpus_tokens(distilled, MULTI_TARGET_LANG, pieces)).argmax(axis=1)
    corpora = {
        **_by_language(args),
        CONCATENATED: _rows(args, CONCATENATED, ["train"]),
        RANDOM: _rows(args, RANDOM, ["train"]),
        DISTILLED: distilled.add_column("language", [args.target_langs[lang] for lang in chosen]),
    }
    for name, rows in corpora.items():
        measured: dict[str, Any] = {"name": name}
        for kind, tokens in (("words", "space"), ("pieces", pieces)):
            path = args.folder / "measures" / f"{name.replace(' ', '_')}_{kind}"
            result = path.with_suffix(".json")
            if not result.is_file():
                logger.info(f"--- Measuring {name} in {kind}")
                pairs = rows.select_columns(["translation", "language"])
                if kind == "words":
                    pairs = pairs.map(
                        _to_words, batched=True, fn_kwargs={"source_lang": source_lang, "words": args.words}
                    )
                measure_args = MeasureArguments(
                    source_lang, MULTI_TARGET_LANG, tokens=tokens, num_bootstrap=args.num_bootstrap, seed=args.seed
                )
                write_json(result, measure_corpus(AlignedCorpus(name, pairs, path, measure_args)))
            measured[kind] = read_json(result)
        yield measured


def _to_words(batch: dict[str, list[Any]], source_lang: str, words: str) -> dict[str, list[Any]]:
    """Puts blanks between the words of pairs, by the rules of each target's own language."""
    pairs = [dict(pair) for pair in batch["translation"]]
    sides = [(source_lang, source_lang, pairs)]
    for lang in dict.fromkeys(batch["language"]):
        own = [pair for pair, of in zip(pairs, batch["language"], strict=True) if of == lang]
        sides.append((MULTI_TARGET_LANG, lang, own))
    for side, lang, own in sides:
        for pair, line in zip(own, tokenize([pair[side] for pair in own], words, lang), strict=True):
            pair[side] = " ".join(line)
    return {"translation": pairs}


def _examples(args: MultimodalityArguments, outputs: dict[str, list[str]]) -> list[list[tuple[str, str]]]:
    """Shows the first sentences of test, as each model translates them: label and text."""
    sources = list(_texts(_rows(args, RANDOM, ["test"]), args.real().source_lang))
    first = len(outputs["AT"]) - len(sources)
    return [
        [("source", source), *((name, lines[first + i]) for name, lines in outputs.items())]
        for i, source in enumerate(sources[:_NUM_EXAMPLES])
    ]
