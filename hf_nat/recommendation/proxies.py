"""Short trainings of a student on each of several corpora, scored on real targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.corpora import load_corpus
from ..data.text_files import read_lines
from ..metrics import compare_systems
from ..steps import Evaluate, EvaluateArguments, Train, check_steps
from .rule import Proxies


SIGNIFICANCE = 0.05  # probability of a difference by chance below which a candidate is shown to be worse
_SPLIT = "validation"


def train_proxies(
    student: str,
    candidates: Mapping[str, str],
    *,
    num_updates: int,
    num_samples: int,
    seeds: Sequence[int],
    folder: Path,
) -> Proxies:
    """Trains a student on each candidate for a few updates, from the same start, and compares the students.

    The training is that of the student's YAML but for the number of updates, a warm-up of at most a quarter of them,
    and the rows: the first ones. What is finished in `folder` is not repeated, and a killed training goes on.

    Args:
        student (`str`): training YAML of the student, with its `tokenizer`.
        candidates (`Mapping[str, str]`): distilled corpora by name, with real targets in their validation split.
        num_updates (`int`): updates of each training.
        num_samples (`int`): rows of each candidate that are trained on.
        seeds (`Sequence[int]`): seeds of the trainings.
        folder (`Path`): where the models, translations and scores go.

    Returns:
        `Proxies`: BLEU of each candidate and seed. Shown to be worse than the best one by the mean is a candidate that
        loses with every seed, by paired bootstrap resampling of the sentences, p < 0.05.

    Raises:
        ValueError: if the YAML has no tokenizer, the candidates' validation splits differ, or `folder` holds trainings
            of something else; the field is named.
    """
    data = Train.from_config(student).data
    scores: dict[str, list[float]] = {name: [] for name in candidates}
    systems: dict[int, dict[str, list[str]]] = {seed: {} for seed in seeds}
    trainings = {
        (name, seed): _training(student, folder / f"{name}-seed{seed}", corpus, num_updates, num_samples, seed)
        for name, corpus in candidates.items()
        for seed in seeds
    }
    check_steps(trainings.values())
    references = check_proxies(student, candidates)
    for name, corpus in candidates.items():
        for seed in seeds:
            model, own = trainings[name, seed].run(), folder / f"{name}-seed{seed}/eval-{_SPLIT}"
            scoring = EvaluateArguments(
                model=str(model),
                **data.in_hub_layout,
                corpus=corpus,
                split=_SPLIT,
                metrics=["bleu"],
                output_dir=str(own),
            )
            step = Evaluate(scoring)
            step.run()
            scores[name].append(step.metrics["scores"]["bleu"]["score"])
            systems[seed][name] = list(read_lines(str(own / "translations.txt")))
    return Proxies(scores, _leaders(scores, list(systems.values()), references, data.target_lang))


def check_proxies(student: str, candidates: Mapping[str, str]) -> list[str]:
    """Reads what `train_proxies` will read, so that what is missing is found before any work.

    Args:
        student (`str`): training YAML of the student, with its `tokenizer`.
        candidates (`Mapping[str, str]`): distilled corpora by name.

    Returns:
        `list[str]`: the real targets that all candidates are validated on.

    Raises:
        ValueError: if the YAML has no tokenizer, or the candidates' validation splits differ.
    """
    training = Train.from_config(student)
    data = training.data
    if not data.tokenizer:
        raise ValueError(f"`tokenizer` must be given in {student}: all proxies must read the same tokens.")
    training.check_inputs()
    references: list[str] | None = None
    for corpus in candidates.values():
        rows = load_corpus(corpus, _SPLIT, **data.in_hub_layout)
        targets = [pair[data.target_lang] for pair in rows["translation"]]
        if references not in (None, targets):
            raise ValueError(f"All candidates must have the same validation split, got another one in `{corpus}`.")
        references = targets
    return references or []


def _training(student: str, folder: Path, corpus: str, num_updates: int, num_samples: int, seed: int) -> Train:
    """Plans one proxy: the student's training, but for its length, its rows and what it logs and saves."""
    given = Train.from_config(student)
    warmup = given.training.warmup_steps
    return Train.from_config(
        student,
        **given.data.in_hub_layout,
        corpus=corpus,
        train_split="train",
        validation_split=_SPLIT,
        max_train_samples=num_samples,
        max_steps=num_updates,
        warmup_steps=min(warmup, max(1, num_updates // 4)),
        seed=seed,
        output_dir=str(folder / "model"),
        save_strategy="steps",
        save_steps=max(1, num_updates // 10),
        save_total_limit=1,
        eval_strategy="no",
        bleu_on_eval=False,
        load_best_model_at_end=False,
        metric_for_best_model=None,
        early_stopping_patience=None,
        average_checkpoints=0,
        report_to="none",
    )


def _leaders(
    scores: Mapping[str, Sequence[float]],
    systems: Sequence[Mapping[str, Sequence[str]]],
    references: Sequence[str],
    target_lang: str,
) -> frozenset[str]:
    """The best candidate by the mean, and those that are not shown to be worse with every seed."""
    best = min(scores, key=lambda name: (-sum(scores[name]), name))
    is_worse = {name: name != best for name in scores}
    for outputs in systems:
        if len(outputs) < 2:
            break
        tested = compare_systems(outputs, references, target_lang=target_lang, baseline=best, metrics=["bleu"])
        for name in set(scores) - {best}:
            other, top = tested[name]["bleu"], tested[best]["bleu"]
            is_worse[name] &= other.score < top.score and other.p_value < SIGNIFICANCE  # type: ignore[operator]
    return frozenset(name for name in scores if not is_worse[name])
