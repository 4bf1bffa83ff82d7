"""One source, targets in three languages: which of these modes do models choose?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers.utils import logging

from ..analysis import AlignedCorpus, MeasureArguments, measure_corpus
from ..base.bounds import require_choice, require_number
from ..base.config import option
from ..base.files import atomic_path
from ..base.processes import process_state
from ..base.utils import environment, read_json, write_json
from ..data import concatenate_targets, corpus_tokens, load_corpus, select_targets, tokenize, tokenizer_checksum
from ..data.multi_target import MULTI_TARGET_LANG
from ..decoding import load_model, translate
from ..metrics import LanguagePosterior, concentration, corpus_bootstraps, corpus_differences, fuzzy_reordering
from ..metrics.bootstrap import Bootstrap
from ..metrics.translation import require_bootstrap
from ..steps import Distill, DistillArguments, Step, Train
from ..steps.fingerprints import corpus_fingerprint, model_fingerprint
from .multimodality_report import CONCATENATED, DISTILLED, RANDOM, write_multimodality_report
from .plans import (
    check_entries,
    own_keys,
    real_splits,
    refuse_set_keys,
    resolve_distillation,
    start_from,
    teacher_decoding,
    train_distilled,
)
from .study import StudyStep


logger = logging.get_logger(__name__)

_NUM_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
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
    models: dict[str, Any] = field(metadata={"help": "{teacher: {config: YAML, key: value, ...}, student: ...}"})
    distill_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "keys of the distillation's YAML that differ, as a mapping"}
    )
    words: str = option("moses", "words of the measures: moses (lower-cased, by language) or space")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the intervals; 0 for none")
    seed: int = option(1, "seed of the random selection and the bootstrap")

    def __post_init__(self) -> None:
        if len(set(self.target_langs)) != 3 or len(self.target_langs) != 3:
            raise ValueError(f"`target_langs` must be three languages, a simplex's corners, got {self.target_langs}.")
        check_entries("models", self.models, "config")
        if set(self.models) != {"teacher", "student"}:
            raise ValueError(f"`models` must be `teacher` and `student`, got {sorted(self.models)}.")
        require_bootstrap(self.num_bootstrap)
        require_number("seed", self.seed, least=0)
        require_choice("words", self.words, ("moses", "space"))


@dataclass(frozen=True)
class Multimodality(StudyStep):
    """Lets models choose among three target languages.

    An AT model and a NAT model learn all pairs of three target languages, with nothing that tells the language. Two
    more NAT models learn corpora with fewer modes: a random language for each source, and what the AT model writes.
    All translate the validation and test sources; each output is a point in the simplex of the three languages.
    `multimodality.json` holds the numbers of the page; `corpora`, `teacher` and `students` are what was made,
    `outputs` the translations, `measures` tokens and links.

    Args:
        args (`MultimodalityArguments`): languages and models.

    Raises:
        ValueError: if a key is unknown, a split is left out, or the corpora have different sources.

    Source: Zhou, Gu & Neubig 2020, section 3.1.
    """

    name = "multimodality"
    args: MultimodalityArguments

    def __post_init__(self) -> None:
        real_splits(self.real)
        list(self.steps())

    @cached_property
    def real(self) -> DistillArguments:
        """The distillation as it is given: it names the real corpus and its splits."""
        refuse_set_keys("distill_options", self.args.distill_options, ("teacher", "output_dir"))
        target = {"target_lang": self.args.target_langs[0]}
        return resolve_distillation(self.args.distill_config, **{**target, **self.args.distill_options})

    @cached_property
    def distillation(self) -> DistillArguments:
        """The distillation of the sources, once each, by the teacher."""
        places: dict[str, Any] = {
            "teacher": str(self.folder / "teacher"),
            "corpus": str(self.corpus_dir(RANDOM)),
            **self.real.in_hub_layout,
            "target_lang": MULTI_TARGET_LANG,
            "train_split": "train",
            "validation_split": "validation",
            "test_split": "test",
            "output_dir": str(self.corpus_dir(DISTILLED)),
        }
        return replace(self.real, **places)

    def corpus_dir(self, name: str) -> Path:
        """Returns the folder of one of the three corpora that models learn."""
        return self.folder / "corpora" / name.replace(" ", "_")

    @cached_property
    def trainings(self) -> dict[str, Train]:
        """The trainings by the names of the models, the teacher first."""
        students = {f"NAT, {corpus}": corpus for corpus in (CONCATENATED, RANDOM, DISTILLED)}
        return {
            "AT": self._training("teacher", CONCATENATED, self.folder / "teacher"),
            **{
                name: self._training("student", corpus, self.folder / "students" / corpus.replace(" ", "_"))
                for name, corpus in students.items()
            },
        }

    def _training(self, entry: str, corpus: str, folder: Path) -> Train:
        keys, teacher = self.args.models[entry], str(self.folder / "teacher")
        tokenizer = Path(teacher) if entry == "student" else None
        own = start_from(own_keys(keys, "config"), {"teacher": Path(teacher)})
        places = train_distilled(self.distillation, self.corpus_dir(corpus), tokenizer) | {"output_dir": str(folder)}
        refuse_set_keys(f"models.{entry}", own, places)
        return Train.from_config(keys["config"], **own, **places)

    def steps(self) -> Iterator[Step]:
        """Yields the trainings and the distillation."""
        yield from self.trainings.values()
        yield Distill(self.distillation)

    def settings(self) -> dict[str, Any]:
        """Languages, words, bootstrap samples and seed."""
        kept = ("target_langs", "words", "num_bootstrap", "seed")
        return {name: getattr(self.args, name) for name in kept}

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of the real corpora, of which its own are made."""
        corpora = [replace(self.real, target_lang=lang) for lang in self.args.target_langs]
        return {
            "corpus": {
                f"{one.target_lang}.{split}": corpus_fingerprint(rows, **one.languages)
                for one in corpora
                for split, rows in one.load_splits().items()
            }
        }

    def work(self) -> None:
        """Writes the corpora, trains, translates, and writes results and page."""
        state = process_state()
        if state.is_main_process:
            _write_corpora(self)
        state.wait_for_everyone()
        outputs = {}
        for name, training in self.trainings.items():
            logger.info(f"--- {name}")
            training.run()
            if name == "AT":
                Distill(self.distillation).run()
        for name, training in self.trainings.items():
            outputs[name] = _outputs(self, name, training.folder)
        if state.is_main_process:
            self._write(outputs)
        state.wait_for_everyone()

    def _write(self, outputs: dict[str, list[str]]) -> None:
        """Measures corpora and outputs, and writes the results and the page."""
        posterior = _posterior(self)
        references = _rows(self, CONCATENATED, ("validation", "test"))
        texts = {"real targets": list(_texts(references, MULTI_TARGET_LANG)), **outputs}
        teacher = str(self.folder / "teacher")
        pieces = {name: list(tokenize(lines, teacher, is_target=True)) for name, lines in texts.items()}
        points = {name: posterior(found) for name, found in pieces.items()}
        results = {
            "settings": {key: value for key, value in asdict(self.args).items() if key != "output_dir"},
            "systems": [
                {"name": name, **_system(self.args, found), "unknown_share": posterior.unknown_share(pieces[name])}
                for name, found in points.items()
            ],
            **_measures(self, posterior),
            "examples": _examples(self, outputs),
            "environment": environment(),
        }
        write_json(self.folder / "multimodality.json", results)
        write_multimodality_report(self.folder, results, points)


def _write_corpora(study: Multimodality) -> None:
    """Writes the concatenated corpus and the random selection, in Hub layout."""
    real, args = study.real, study.args
    splits = {"train": real.train_split, **real_splits(real)}
    for (split, name), corpus in product(splits.items(), (CONCATENATED, RANDOM)):
        path = study.corpus_dir(corpus) / "data" / f"{split}-00000-of-00001.parquet"
        if path.is_file():
            continue
        given = (real.real_corpus, real.source_lang, args.target_langs, name)
        if corpus == RANDOM:
            rows = select_targets(*given, args.seed, config_name=real.config_name)
        else:
            rows = concatenate_targets(*given, config_name=real.config_name)
        with atomic_path(path) as temporary:
            rows.to_parquet(temporary)


def _rows(study: Multimodality, corpus: str, splits: Sequence[str]) -> Dataset:
    """Returns the rows of some splits of a corpus."""
    source_lang = study.real.source_lang
    loaded: list[Any] = [
        load_corpus(study.corpus_dir(corpus), split, source_lang=source_lang, target_lang=MULTI_TARGET_LANG)
        for split in splits
    ]
    return concatenate_datasets(loaded)


def _by_language(study: Multimodality) -> dict[str, Dataset]:
    """Parts the training pairs of all languages; they are stored one language after the other."""
    rows, languages = _rows(study, CONCATENATED, ["train"]), study.args.target_langs
    size = len(rows) // len(languages)
    return {lang: rows.select(range(i * size, (i + 1) * size)) for i, lang in enumerate(languages)}


def _texts(rows: Dataset, lang: str) -> Iterator[str]:
    return (row["translation"][lang] for row in rows.select_columns("translation"))


def _outputs(study: Multimodality, name: str, model: Path) -> list[str]:
    """Translates the validation and test sources."""
    path = study.folder / "outputs" / f"{name.replace(', ', '_').replace(' ', '_')}.json"
    state = process_state()
    made_from = model_fingerprint(model)
    if _stored(path, made_from) is None:
        logger.info(f"--- Outputs of {name}")
        distill_args = study.distillation
        sources = list(_texts(_rows(study, RANDOM, ("validation", "test")), distill_args.source_lang))
        loaded, tokenizer = load_model(model)
        kwargs = teacher_decoding(distill_args).generate_kwargs(loaded) if name == "AT" else {}
        found = translate(loaded, tokenizer, sources, progress=True, shared=True, **kwargs)
        if state.is_main_process:
            write_json(path, {"made_from": made_from, "outputs": [translation.text for translation in found]})
    state.wait_for_everyone()
    return read_json(path)["outputs"]


def _stored(path: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what a file holds, None where it is not there or was made from something else."""
    stored = read_json(path) if path.is_file() else None
    return stored if isinstance(stored, dict) and stored.get("made_from") == made_from else None


def _posterior(study: Multimodality) -> LanguagePosterior:
    """Counts the tokens of the training targets of each language, in the teacher's pieces."""
    tokens = str(study.folder / "teacher")
    return LanguagePosterior.from_corpora(
        {
            lang: corpus_tokens(rows, MULTI_TARGET_LANG, tokens, is_target=True)
            for lang, rows in _by_language(study).items()
        }
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


def _measures(study: Multimodality, posterior: LanguagePosterior) -> dict[str, Any]:
    """Measures pair by pair, all together, the selection and the distilled corpus, in words and in pieces.

    Samples are drawn of the sources, which all corpora share, so that the differences are paired by them.
    """
    args, pieces = study.args, str(study.folder / "teacher")
    distilled = _rows(study, DISTILLED, ["train"])
    chosen = posterior(corpus_tokens(distilled, MULTI_TARGET_LANG, pieces, is_target=True)).argmax(axis=1)
    corpora = {
        **_by_language(study),
        CONCATENATED: _rows(study, CONCATENATED, ["train"]),
        RANDOM: _rows(study, RANDOM, ["train"]),
        DISTILLED: distilled.add_column("language", [args.target_langs[lang] for lang in chosen]),
    }
    num_sources = len(corpora[RANDOM])
    measured: dict[str, dict[str, Any]] = {name: {"name": name} for name in corpora}
    differences = {}
    for kind, tokens in (("words", "space"), ("pieces", pieces)):
        bootstraps: dict[str, dict[str, Bootstrap]] = {}
        for name, rows in corpora.items():
            corpus = _aligned(study, name, rows, kind, tokens)
            # The pairs of a language after those of the other; distilled ones may be some of them.
            sources = np.array(rows["id"][:]) if name == DISTILLED else np.arange(len(rows)) % num_sources
            bootstraps[name] = (
                corpus_bootstraps(
                    corpus.counts,
                    fuzzy_reordering(corpus.links()),
                    rows=sources,
                    num_rows=num_sources,
                    num_samples=args.num_bootstrap,
                    seed=args.seed,
                )
                if args.num_bootstrap
                else {}
            )
            measured[name][kind] = measure_corpus(corpus, bootstraps=bootstraps[name])
        differences[kind] = corpus_differences(bootstraps)
    return {"corpora": list(measured.values()), "differences": differences}


def _aligned(study: Multimodality, name: str, rows: Dataset, kind: str, tokens: str) -> AlignedCorpus:
    """Cuts a corpus into words or pieces and aligns it, unless that was done before."""
    args, source_lang = study.args, study.real.source_lang
    folder = study.folder / "measures" / f"{name.replace(' ', '_')}_{kind}"
    mark = folder / "made_from.json"
    made_from = {
        "corpus": corpus_fingerprint(rows, source_lang, MULTI_TARGET_LANG, columns=["language"]),
        "tokenizer": tokenizer_checksum(tokens),
    }
    if _stored(mark, made_from) is None:
        shutil.rmtree(folder, ignore_errors=True)  # Tokens and links of another corpus.
        write_json(mark, {"made_from": made_from})
    logger.info(f"--- Measuring {name} in {kind}")
    pairs = rows.select_columns(["translation", "language"])
    if kind == "words":
        pairs = pairs.map(_to_words, batched=True, fn_kwargs={"source_lang": source_lang, "words": args.words})
    measure_args = MeasureArguments(
        source_lang=source_lang,
        target_lang=MULTI_TARGET_LANG,
        tokens=tokens,
        num_bootstrap=args.num_bootstrap,
        seed=args.seed,
    )
    return AlignedCorpus(name, pairs, folder, measure_args)


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


def _examples(study: Multimodality, outputs: dict[str, list[str]]) -> list[list[tuple[str, str]]]:
    """Shows the first sentences of test, as each model translates them: label and text."""
    sources = list(_texts(_rows(study, RANDOM, ["test"]), study.real.source_lang))
    first = len(outputs["AT"]) - len(sources)
    return [
        [("source", source), *((name, lines[first + i]) for name, lines in outputs.items())]
        for i, source in enumerate(sources[:_NUM_EXAMPLES])
    ]
