"""Advice on which distilled corpus suits a student: measures, proxy trainings, the rule, and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..analysis import MEASURES_FILE, AnalyzeArguments, read_measures
from ..base.bounds import require_number
from ..base.config import option, refuse_changed
from ..base.folders import check_output_folder
from ..base.reporting import Table, interval_cell, plot_points, write_report
from ..base.utils import check_record, environment, read_record, write_json
from ..data.several import TARGETS, named_corpora
from ..steps import Analyze, check_steps
from .paper_students import place_student
from .proxies import SIGNIFICANCE, check_proxies, train_proxies
from .rule import CONFIDENCES, Candidate, Recommendation, recommend
from .student_model import is_training_yaml, load_student


logger = logging.get_logger(__name__)

_HOW_MEASURED = ("source_lang", "target_lang", "split", "tokens", "alignment", "num_bootstrap", "seed")
# What must agree for measures to be compared. The measures of the real corpus stand for its rows, tokens and links.
_COMPARED_SETTINGS = ("source_lang", "target_lang", "split", "alignment")
# What may be in the folder of an earlier recommendation.
_OWN = ("recommendation.json", "recommendation.png", "report.md", "report.html", "analysis/*", "proxies/*")
_COMPARED_MEASURES = ("num_pairs", "num_source_types", "num_links", "complexity")


@dataclass(frozen=True, kw_only=True)
class RecommendArguments:
    """For which student, and among which corpora.

    Raises:
        ValueError: if names repeat, a number is out of range, or proxies are asked for without a training YAML.
    """

    student: str = field(
        metadata={"help": "the student: training YAML of `hf-nat train`, checkpoint folder or Hub id"}
    )
    candidates: list[str] = field(
        metadata={"help": "folders of distilled corpora, as CORPUS or NAME=CORPUS", "action": "extend"}
    )
    corpus: str | None = option(None, "the real corpus, to measure candidates that `hf-nat analyze` has not measured")
    tokens: str = option("moses", "tokens of measures made now: moses, space, or a tokenizer's folder")
    proxy_updates: int = option(0, "train the student for so many updates on each candidate and compare; 0 for not")
    proxy_samples: int = option(20_000, "first rows of each candidate that these trainings use")
    proxy_seeds: list[int] = field(default_factory=lambda: [1], metadata={"help": "seeds of these trainings"})
    output_dir: str = option("runs/recommend", "folder of the report, the plot, recommendation.json and the proxies")

    def __post_init__(self) -> None:
        named_corpora(self.candidates)
        for name, least in (("proxy_updates", 0), ("proxy_samples", 1)):
            require_number(name, getattr(self, name), least=least)
        if not self.proxy_seeds or len(set(self.proxy_seeds)) < len(self.proxy_seeds):
            raise ValueError(f"`proxy_seeds` must be at least 1, and distinct, got {self.proxy_seeds}.")
        if not all(0 <= seed < 2**32 for seed in self.proxy_seeds):
            raise ValueError(f"`proxy_seeds` must be >= 0 and below 2 ** 32, got {self.proxy_seeds}.")
        if not self.proxy_updates:
            refuse_changed(self, ("proxy_samples", "proxy_seeds"), "without `proxy_updates`")
        if self.proxy_updates and not is_training_yaml(self.student):
            raise ValueError(
                f"`student` must be a training YAML for proxies, got {self.student!r}. It says how the student is "
                "trained; a checkpoint does not."
            )

    @property
    def folders(self) -> dict[str, str]:
        """Folders of the candidates by name."""
        return named_corpora(self.candidates)


def recommend_corpus(args: RecommendArguments) -> dict[str, Any]:
    """Ranks distilled corpora for a student by their measures and by proxy trainings, and writes a report.

    Measures come from the `measures.json` that `hf-nat analyze` leaves in each corpus; what has none is measured in
    the way of the others, if the real corpus is given.

    Args:
        args (`RecommendArguments`): student, candidates and proxy trainings.

    Returns:
        `dict[str, Any]`: the content of `recommendation.json`: the student and its place, the measures, the scores of
        the proxies, and the recommendation; `report.html` lies beside it.

    Raises:
        ValueError: if `output_dir` holds something else, a candidate has no measures and there is no real corpus,
            measures are out of date, or they were not made in the same way.

    Source: Zhou, Gu & Neubig 2020, sections 4.4 and 5; see `hf_nat.recommendation.rule`.
    """
    folder = Path(args.output_dir)
    check_output_folder(folder, own=_OWN)
    model = load_student(args.student)
    student = place_student(model.model_type, model.num_parameters, model.methods)
    if args.proxy_updates:
        check_proxies(args.student, args.folders)  # Before anything is measured.
    measures = _load_measures(args)
    _require_comparable(measures)
    rows = {name: results["corpora"][1] for name, results in measures.items()}
    first = next(iter(measures.values()))
    real = first["corpora"][0] | {"faithfulness": 0.0, "faithfulness_interval": [0.0, 0.0]}
    proxies = None
    if args.proxy_updates:
        proxies = train_proxies(
            args.student,
            args.folders,
            num_updates=args.proxy_updates,
            num_samples=args.proxy_samples,
            seeds=args.proxy_seeds,
            folder=folder / "proxies",
        )
    candidates = [_candidate(name, row) for name, row in rows.items()]
    recommendation = recommend(candidates, student, real=_candidate("real", real), proxies=proxies)
    how = {"num_updates": args.proxy_updates, "num_samples": args.proxy_samples, "seeds": args.proxy_seeds}
    scores = None if proxies is None else how | {"scores": dict(proxies.scores), "leaders": sorted(proxies.leaders)}
    results = {
        "student": {"source": args.student} | asdict(student),
        "candidates": {name: rows[name] | {"folder": args.folders[name]} for name in rows},
        "real": first["corpora"][0],
        "measured": {key: first["settings"][key] for key in _HOW_MEASURED},
        "proxies": scores,
        "recommendation": asdict(recommendation),
        "environment": environment(),
    }
    write_json(folder / "recommendation.json", results)
    _report(folder, results, recommendation)
    return results


def _load_measures(args: RecommendArguments) -> dict[str, dict[str, Any]]:
    """Reads the measures of each candidate, and makes those that are missing."""
    paths = {name: Path(folder) / MEASURES_FILE for name, folder in args.folders.items()}
    measures = {name: _checked_measures(path) for name, path in paths.items() if path.is_file()}
    missing = [name for name in paths if name not in measures]
    existing = next(iter(measures), None)
    if existing is not None:
        _require_tokens(args, paths[existing], measures[existing]["settings"]["tokens"])
    if missing:
        if args.corpus is None:
            raise ValueError(
                f"Every candidate must have a {MEASURES_FILE}, got none in {args.folders[missing[0]]!r}. Give the "
                "real corpus as `corpus`, or run `hf-nat analyze --real CORPUS --distilled CANDIDATE ...`."
            )
        how = _how_to_measure(args, None if existing is None else measures[existing]["settings"])
        # Each on its own: the others may be other ones next time.
        steps = [_analysis(args, args.corpus, name, how) for name in missing]
        check_steps(steps)
        for step in steps:
            step.check_inputs()
            for corpus in step.args.corpora:
                step.args.load(corpus)  # One that is missing or damaged is an error before the first is measured.
        for step in steps:
            step.run()
    return {name: measures.get(name) or _checked_measures(path) for name, path in paths.items()}


def _checked_measures(path: Path) -> dict[str, Any]:
    """Reads the measures of a candidate, which must be whole and of the corpus that they lie in."""
    results = read_measures(path)
    texts = dict.fromkeys(("source_lang", "target_lang", "split", "tokens", "alignment"), str)
    others = {"distilled_links": list, "num_bootstrap": int, "seed": int}
    check_record(results["settings"], texts | others, f"`settings` of `{path}`")
    numbers = dict.fromkeys(("num_pairs", "num_links", "num_source_types"), int) | {"complexity": (int, float)}
    place = f"Each of `corpora` of `{path}`"
    real, distilled = results["corpora"]
    check_record(distilled, {"faithfulness": (int, float)}, place)
    for row, intervals in ((real, ("complexity",)), (distilled, ("complexity", "faithfulness"))):
        check_record(row, {"name": str, **numbers}, place)
        for measure in intervals:
            _check_interval(row.get(f"{measure}_interval", ""), f"`{measure}_interval` of `{path}`")
    _require_current(path.parent, results)
    return results


def _require_tokens(args: RecommendArguments, path: Path, measured: str) -> None:
    """Raises where tokens are asked for that are not those of the measures that are there."""
    if args.tokens not in (RecommendArguments.tokens, measured):
        raise ValueError(
            f"`tokens` must be left out, or those of `{path}`, {measured!r}, got {args.tokens!r}. All candidates are "
            "measured alike."
        )


def _check_interval(ends: Any, place: str) -> None:
    if ends is None:
        return
    numbers = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    if not numbers or not ends[0] <= ends[1]:
        raise ValueError(f"{place} must be two rising numbers or null, got {ends!r:.60}. Run `hf-nat analyze` again.")


def _analysis(args: RecommendArguments, real: str, name: str, how: Mapping[str, Any]) -> Analyze:
    """Plans the measures of one candidate."""
    return Analyze(
        AnalyzeArguments(
            real=real,
            distilled=[f"{name}={args.folders[name]}"],
            output_dir=str(Path(args.output_dir) / "analysis" / name),
            **how,
        )
    )


def _how_to_measure(args: RecommendArguments, existing: Mapping[str, Any] | None) -> dict[str, Any]:
    """Chooses how candidates are measured: as others were, or by their languages and `args.tokens`."""
    if existing is not None:
        return {key: existing[key] for key in _HOW_MEASURED}
    folder = next(iter(args.folders.values()))
    manifest = Path(folder) / "manifest.json"
    if not manifest.is_file():
        raise ValueError(
            f"A candidate must have a manifest.json to be measured, got none in {folder!r}. Run `hf-nat analyze`."
        )
    languages = read_record(manifest, dict.fromkeys(("source_lang", "target_lang"), str))
    return {"tokens": args.tokens} | {key: languages[key] for key in ("source_lang", "target_lang")}


def _require_current(folder: Path, results: Mapping[str, Any]) -> None:
    """Raises where a corpus is no longer the one that was measured, as far as its number of rows tells."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return
    made = read_record(manifest, {"counts": dict})
    if TARGETS in (made.get("columns") or []):
        return  # What is measured are its pairs, of which a row has several.
    counted, measured = made["counts"], results["corpora"][1]["num_pairs"]
    if counted.get(results["settings"]["split"], measured) != measured:
        raise ValueError(
            f"{MEASURES_FILE} must be of the corpus beside it, got {measured} rows for {counted} in {str(folder)!r}. "
            "Delete it, or run `hf-nat analyze` again."
        )


def _require_comparable(measures: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises where two candidates were not measured in the same way against the same real corpus."""

    def compared(results: Mapping[str, Any]) -> dict[str, Any]:
        settings, real = results["settings"], results["corpora"][0]
        return {
            **{key: settings[key] for key in _COMPARED_SETTINGS},
            "links of another aligner": bool(settings["distilled_links"]),
            **{f"{key} of the real corpus": round(real[key], 9) for key in _COMPARED_MEASURES},
        }

    first, *others = measures
    for other in others:
        one, two = (compared(measures[name]) for name in (first, other))
        for key in one:
            if one[key] != two[key]:
                tokens = [measures[name]["settings"]["tokens"] for name in (first, other)]
                raise ValueError(
                    f"Candidates must be measured with the same tokens and links against the same real corpus, got "
                    f"{key} {one[key]!r} for `{first}` (tokens {tokens[0]}) and {two[key]!r} for `{other}` (tokens "
                    f"{tokens[1]}). Measure them together with `hf-nat analyze`."
                )


def _candidate(name: str, row: Mapping[str, Any]) -> Candidate:
    intervals = (row["complexity_interval"], row["faithfulness_interval"])
    own, its = (None if ends is None else (ends[0], ends[1]) for ends in intervals)
    return Candidate(name, row["complexity"], own, row["faithfulness"], its)


def recommendation_table(results: Mapping[str, Any]) -> Table:
    """Makes the table of the candidates, the best first, from what `recommend_corpus` returns."""
    proxies = results["proxies"]
    header = ["candidate", "rank", "C(d)", "95 %", "F(d)", "95 %", *(["proxy BLEU"] if proxies else []), "reason"]
    rows = []
    for entry in results["recommendation"]["ranking"]:
        row = results["candidates"][entry["name"]]
        cells = [entry["name"], str(entry["rank"])]
        for measure in ("complexity", "faithfulness"):
            cells += [f"{row[measure]:.3f}", interval_cell(row[f"{measure}_interval"])]
        if proxies:
            cells.append(", ".join(f"{score:.2f}" for score in proxies["scores"][entry["name"]]))
        rows.append([*cells, entry["reason"]])
    return Table(header, rows)


def verdict(recommendation: Mapping[str, Any]) -> str:
    """Says in a line what is advised, and how sure that is."""
    confidence = recommendation["confidence"]
    if recommendation["advised"] is None:
        return f"No corpus is advised: {CONFIDENCES[confidence]}."
    return f"Advised: {recommendation['advised']} ({confidence}: {CONFIDENCES[confidence]})."


def _report(folder: Path, results: Mapping[str, Any], recommendation: Recommendation) -> None:
    rows = {**results["candidates"], "real": results["real"] | {"faithfulness": 0.0}}
    points = {name: (row["complexity"], row["faithfulness"]) for name, row in rows.items()}
    suited = [results["candidates"][name] for name in recommendation.suited]
    ends = [end for row in suited for end in row["complexity_interval"] or [row["complexity"]]]
    plot_points(
        folder / "recommendation.png",
        points,
        "complexity C (nats)",
        "faithfulness F (nats), low is faithful",
        line=[name for level in recommendation.levels for name in level],
        region={"suits the student": (min(ends), max(ends))} if ends else None,
    )
    write_report(
        folder,
        "recommend",
        table=recommendation_table(results),
        verdict=verdict(results["recommendation"]),
        confidences=CONFIDENCES,
        significance=SIGNIFICANCE,
        **results,
    )
