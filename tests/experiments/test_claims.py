"""The page of claims: how an effect is judged, and that the committed page is that of the committed results."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_nat.base.utils import read_json, write_json
from hf_nat.experiments.claims import ClaimsArguments, claims_table, effect_lines, judge, judge_claim, source_line
from hf_nat.experiments.effects import Effect, between, over_seeds, verdict_of
from hf_nat.experiments.paper_claims import CLAIMS
from hf_nat.metrics import bleu_record, hierarchical_bootstrap, training_bleu
from hf_nat_cli import main


ROOT = Path(__file__).parents[2]
REFERENCES = [f"der Hund {i} läuft heute durch den Park {i % 7} nach Hause" for i in range(40)]


def scored(errors: int, start: int = 0) -> dict[str, object]:
    """The BLEU of a system that leaves a word out of every so many sentences, as a result holds it."""
    outputs = [text.replace("heute ", "") if (i + start) % errors == 0 else text for i, text in enumerate(REFERENCES)]
    bleu = training_bleu(outputs, REFERENCES, target_lang="de")
    return {"score": bleu.score, "sentence_statistics": bleu_record(bleu.statistics)}


GOOD, BAD = {1: scored(9), 2: scored(8, 1)}, {1: scored(2), 2: scored(3, 1)}


def test_interval_of_two_corpora_is_the_widest_that_theirs_allow() -> None:
    larger, smaller = {"c": 2.0, "c_interval": [1.9, 2.2]}, {"c": 1.5, "c_interval": [1.4, 1.6]}
    effect = between(larger, smaller, "c")
    assert (effect.value, effect.low, effect.high) == pytest.approx((0.5, 0.3, 0.8))
    assert effect.basis == "widest"
    for without in ({"c": 1.5}, {"c": 1.5, "c_interval": None}):
        assert between(larger, without, "c").low is None


def test_paired_interval_of_two_corpora_goes_before_the_widest() -> None:
    one, other = ({"name": n, "c": c, "c_interval": [c - 1, c + 1]} for n, c in (("one", 2.0), ("other", 1.5)))
    recorded = [{"first": "other", "second": "one", "c": {"value": -0.5, "interval": [-0.6, -0.3]}}]
    effect = between(one, other, "c", differences=recorded)
    assert (effect.value, effect.low, effect.high, effect.basis) == (0.5, 0.3, 0.6, "paired bootstrap")
    effect = between(other, one, "c", differences=recorded)
    assert (effect.value, effect.low, effect.high) == (-0.5, -0.6, -0.3)
    assert between(one, other, "c", differences=[recorded[0] | {"second": "third"}]).basis == "widest"


def test_interval_of_systems_resamples_seeds_and_sentences() -> None:
    effect = over_seeds(GOOD, BAD)
    assert effect.value == pytest.approx(sum(GOOD[s]["score"] - BAD[s]["score"] for s in (1, 2)) / 2)
    assert effect.low is not None and 0 < effect.low < effect.value < effect.high
    assert (effect.verdict, effect.basis) == ("confirmed", "2 seeds")
    back = over_seeds(BAD, GOOD)
    assert (back.value, back.low, back.high) == pytest.approx((-effect.value, -effect.high, -effect.low))
    assert back.verdict == "contradicted"
    same = over_seeds(GOOD, GOOD)
    assert (same.value, same.low, same.high, same.verdict) == (0.0, 0.0, 0.0, "undecided")


def test_only_common_seeds_count_and_one_is_marked() -> None:
    effect = over_seeds(GOOD, {2: BAD[2]})
    assert effect.value == pytest.approx(GOOD[2]["score"] - BAD[2]["score"])
    assert effect.basis == "1 seed" and effect.low is not None
    with pytest.raises(ValueError, match=r"a seed in common, got the seeds \[\[1\], \[2\]\]"):
        over_seeds({1: GOOD[1]}, {2: BAD[2]})


def test_gain_less_another_gain_is_resampled_as_a_whole() -> None:
    middle = {1: scored(4), 2: scored(5, 1)}
    effect = over_seeds(GOOD, BAD, than=(GOOD, middle))
    expected = over_seeds(middle, BAD)
    assert (effect.value, effect.low, effect.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_range_over_seeds_is_no_interval() -> None:
    bare = {seed: {"score": entry["score"]} for seed, entry in BAD.items()}
    effect = over_seeds(GOOD, bare)
    assert effect.value == pytest.approx(over_seeds(GOOD, BAD).value)
    assert (effect.low, effect.high, effect.verdict) == (None, None, "not measured")
    assert str(effect).endswith("(no interval; 2 seeds, no sentence statistics)")


def test_other_sentences_are_an_error() -> None:
    statistics = training_bleu(["der Hund"] * 40, ["der Hund"] * 40, target_lang="de").statistics
    assert len(hierarchical_bootstrap(np.stack([statistics])).samples) == 1000
    other = {1: {"score": 100.0, "sentence_statistics": bleu_record(statistics)}}
    with pytest.raises(ValueError, match=r"the same sentences, got \[40, 40\] sentences"):
        over_seeds(GOOD, other)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (Effect(1.0, "", 0.1, 2.0), "confirmed"),
        (Effect(1.0, "", -0.1, 2.0), "undecided"),
        (Effect(1.0, "", 0.0, 2.0), "undecided"),
        (Effect(-1.0, "", -2.0, -0.1), "contradicted"),
        (Effect(9.0, ""), "not measured"),
        (Effect(-0.5, "", -1.0, 1.0, margin=1.0), "confirmed"),
        (Effect(0.5, "", 0.2, 0.9, margin=1.0), "confirmed"),
        (Effect(0.5, "", -0.2, 1.1, margin=1.0), "undecided"),
        (Effect(1.0, "", -2.0, 2.0, margin=1.0), "undecided"),
        (Effect(-2.0, "", -3.0, -1.1, margin=1.0), "contradicted"),
        (Effect(2.0, "", 1.1, 3.0, margin=1.0), "contradicted"),
        (Effect(0.0, "", margin=1.0), "not measured"),
    ],
)
def test_verdict(effect: Effect, verdict: str) -> None:
    assert effect.verdict == verdict


def test_claim_of_several_effects_is_judged_by_the_worst() -> None:
    confirmed, undecided = Effect(1.0, "", 0.1, 2.0), Effect(1.0, "", -0.1, 2.0)
    contradicted, unmeasured = Effect(-1.0, "", -2.0, -0.1), Effect(9.0, "")
    order = [confirmed, undecided, unmeasured, contradicted]
    for i, worst in enumerate(order):
        assert verdict_of(order[: i + 1]) == verdict_of(order[i::-1]) == worst.verdict
    assert verdict_of([]) == "not measured"


def test_size_of_the_paper_stands_beside_the_interval() -> None:
    def line(effect: Effect, size: float | None) -> str:
        return effect_lines({"effects": {"gain": vars(effect)}, "size": size})[0]

    assert line(Effect(1.5, "BLEU", 1.0, 2.5, "2 seeds"), 2.0) == (
        "gain: +1.5 BLEU (+1 to +2.5; 2 seeds); the paper: 2, inside the interval"
    )
    assert line(Effect(1.5, "BLEU", 1.0, 1.9), 2.0).endswith("(+1 to +1.9); the paper: 2, outside the interval")
    assert line(Effect(1.5, "BLEU"), 2.0).endswith("(no interval); the paper: 2")
    assert line(Effect(1.5, "BLEU"), None).endswith("(no interval)")


def test_files_of_one_folder_name_it_once() -> None:
    assert source_line({"files": ["a/b/c.json"]}) == "`a/b/c.json`"
    assert source_line({"files": ["a/b/c.json", "a/b/d.json"]}) == "`a/b/`: `c.json`, `d.json`"
    assert source_line({"files": ["a/b/c.json", "a/d.json"]}) == "`a/b/c.json`, `a/d.json`"


def test_table_says_whether_the_values_are_as_claimed() -> None:
    near, far, none = (Effect(-0.5, "", margin=1.0), Effect(-1.5, "", margin=1.0), [])
    rows = [
        {"text": "", "source": "", "verdict": "", "effects": {str(i): vars(e) for i, e in enumerate(effects)}}
        for effects in ([near], [far], [near, far], none)
    ]
    assert [cells[-1] for cells in claims_table(rows).rows] == [
        "as claimed",
        "not as claimed",
        "in part as claimed",
        "",
    ]


def test_results_of_something_else_are_named(tmp_path: Path) -> None:
    file = tmp_path / next(claim.files[0] for claim in CLAIMS if len(claim.files) == 1)
    write_json(file, {})
    with pytest.raises(ValueError, match=f"{file.name} must be results that hf_nat writes"):
        list(judge(tmp_path))
    with pytest.raises(ValueError, match="`results_dir` must be a folder, got 'nowhere'"):
        ClaimsArguments(results_dir="nowhere")


def test_nothing_is_claimed_without_results(tmp_path: Path) -> None:
    assert {row["verdict"] for row in judge(tmp_path)} == {"not measured"}
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_converged_runs_take_the_place_of_short_ones_as_they_come(tmp_path: Path) -> None:
    def add(run: str, errors: int) -> None:
        write_json(tmp_path / f"multi30k/results/converged/{run}.json", {"scores": {"bleu": scored(errors)}})

    def judged(number: int) -> dict[str, Any]:
        return judge_claim(CLAIMS[number - 1], tmp_path)

    add("vanilla_nat_distilled", 5)
    assert judged(12)["verdict"] == "not measured" and not judged(12)["effects"]
    add("vanilla_nat_real", 2)
    assert not judged(12)["effects"] and not judged(13)["effects"]  # one student is not every student

    add("cmlm_distilled", 9)
    add("cmlm_real", 8)
    add("ctc_nat_distilled__beam5", 9)  # another way of decoding is no student of its own
    row = judged(12)
    assert row["verdict"] == "undecided" and set(row["effects"]) == {"vanilla_nat", "cmlm"} and len(row["files"]) == 4
    assert row["effects"]["vanilla_nat"]["basis"] == "1 seed" and row["effects"]["vanilla_nat"]["low"] > 0
    assert set(judged(13)["effects"]) == {"vanilla_nat over cmlm"} and judged(13)["verdict"] == "confirmed"

    # A student of the second teacher counts where students are not compared with each other, if both runs are of it.
    add("ctc_nat_distilled", 9)
    add("ctc_nat_real_teacher2", 2)
    assert set(judged(12)["effects"]) == {"vanilla_nat", "cmlm"}
    add("ctc_nat_distilled_teacher2", 9)
    assert set(judged(12)["effects"]) == {"vanilla_nat", "cmlm", "ctc_nat"}
    assert set(judged(13)["effects"]) == {"vanilla_nat over cmlm"}

    # The weak student does better on the simpler corpus of the teacher of size nano, the strong one worse.
    add("vanilla_nat_distilled_nano", 9)
    add("cmlm_distilled_nano", 3)
    assert set(judged(14)["effects"]) == {"cmlm over vanilla_nat"} and judged(14)["verdict"] == "confirmed"

    add("vanilla_nat_greedy", 4)
    add("vanilla_nat_sampling", 2)
    add("vanilla_nat_top-k_teacher2", 3)
    assert not judged(11)["effects"]  # not before all strategies of one teacher were tried
    for targets, value in (("sampling", 2), ("greedy", 4), ("distilled", 5)):
        add(f"vanilla_nat_{targets}_teacher2", value)
    steps = {"top-k over sampling", "greedy over top-k", "distilled over greedy"}
    assert {name: row["value"] > 0 for name, row in judged(11)["effects"].items()} == dict.fromkeys(steps, True)

    add("cmlm_real_seed2", 2)  # without its distilled pair it does not count
    assert judged(12)["effects"]["cmlm"]["basis"] == "1 seed"
    add("cmlm_distilled_seed2", 9)
    assert judged(12)["effects"]["cmlm"]["basis"] == "2 seeds"

    add("vanilla_nat_experts", 9)
    add("levenshtein_transformer_interpolation_seed2", 9)
    assert not judged(21)["effects"]  # without its rival of the same seed
    add("levenshtein_transformer_distilled_seed2", 2)
    for number, name in ((19, "experts over distilled"), (21, "interpolation over distilled")):
        assert {effect: row["value"] > 0 for effect, row in judged(number)["effects"].items()} == {name: True}
    assert judged(21)["files"] == [
        f"multi30k/results/converged/levenshtein_transformer_{t}_seed2.json" for t in ("interpolation", "distilled")
    ]


def test_files_and_what_is_known_are_of_the_runs_that_were_used(tmp_path: Path) -> None:
    used = [f"{student}_{targets}" for student in ("vanilla_nat", "cmlm") for targets in ("distilled", "real")]
    for run in [
        *used,
        "ctc_nat_distilled",
        "cmlm_distilled_seed2",
        "cmlm_distilled_nano",
        "vanilla_nat_distilled_nano",
    ]:
        write_json(tmp_path / f"multi30k/results/converged/{run}.json", {"scores": {"bleu": scored(5)}})
    rows = list(judge(tmp_path))
    for number in (12, 13):
        assert {Path(file).stem for file in rows[number - 1]["files"]} == set(used)
    assert len(rows[13]["files"]) == 6 and rows[13]["verdict"] == "undecided"
    assert rows[13]["known"] == CLAIMS[13].converged_known != CLAIMS[13].known
    assert rows[10]["files"] == CLAIMS[10].files and rows[10]["known"] == CLAIMS[10].known


def test_converged_studies_are_judged_by_seed(tmp_path: Path) -> None:
    def add(seed: int, *errors: int) -> None:
        iterations = [
            {
                "measures": {"name": f"iteration {i}", "complexity": -i, "faithfulness": seed * i},
                "teacher": {"test": {"bleu": scored(9)}},
                "student": {"test": {"bleu": scored(of)}},
            }
            for i, of in enumerate(errors)
        ]
        end = "" if seed == 1 else f"_seed{seed}"
        write_json(tmp_path / f"multi30k/results/converged/born_again{end}.json", {"iterations": iterations})

    add(1, 2, 5, 8)
    add(3, 2, 5)
    fewer, worse, student, teacher = list(judge(tmp_path))[14:18]
    names = ["iteration 1, seed 1", "iteration 2, seed 1", "iteration 1, seed 3"]
    assert [(name, row["value"]) for name, row in fewer["effects"].items()] == [(name, 1) for name in names]
    assert [row["value"] for row in worse["effects"].values()] == [1, 1, 3]
    assert list(student["effects"]) == list(teacher["effects"]) == ["iteration 1"]  # the other seed has no second one
    assert student["effects"]["iteration 1"]["basis"] == "2 seeds" and student["verdict"] == "confirmed"
    assert teacher["effects"]["iteration 1"]["value"] == 0 and teacher["verdict"] == "confirmed"
    assert len(student["files"]) == 2


def test_every_claim_of_several_languages_takes_a_converged_study(tmp_path: Path) -> None:
    study = read_json(ROOT / "configs" / CLAIMS[0].files[0])
    write_json(tmp_path / "multi30k/results/converged/multimodality_seed2.json", study)
    short = list(judge(ROOT / "configs"))[:5]
    for row, expected in zip(judge(tmp_path), short, strict=False):
        assert row["files"] == ["multi30k/results/converged/multimodality_seed2.json"]
        assert row["effects"] == {f"{name}, seed 2": effect for name, effect in expected["effects"].items()}
        assert row["verdict"] == expected["verdict"]


def test_students_without_a_seed_in_common_are_not_compared(tmp_path: Path) -> None:
    def add(student: str, end: str, errors: int) -> None:
        for targets in ("real", "distilled", "distilled_nano"):
            file = tmp_path / f"multi30k/results/converged/{student}_{targets}{end}.json"
            write_json(file, {"scores": {"bleu": scored(errors)}})

    add("vanilla_nat", "", 2)
    add("cmlm", "_seed2", 8)
    rows = list(judge(tmp_path))
    assert set(rows[11]["effects"]) == {"vanilla_nat", "cmlm"}
    assert not rows[12]["effects"] and not rows[13]["effects"]
    add("cmlm", "", 8)
    assert [set(row["effects"]) for row in list(judge(tmp_path))[12:14]] == [
        {"vanilla_nat over cmlm"},
        {"cmlm over vanilla_nat"},
    ]


def test_runs_of_the_papers_sizes_go_before_those_of_size_mini(tmp_path: Path) -> None:
    mini, paper = tmp_path / "multi30k/results/converged", tmp_path / "multi30k_gpu/results"
    for folder, errors in ((mini, 5), (paper, 9)):
        for student in ("vanilla_nat", "cmlm"):
            write_json(folder / f"{student}_distilled.json", {"scores": {"bleu": scored(errors)}})
            write_json(folder / f"{student}_real.json", {"scores": {"bleu": scored(2)}})
    row = list(judge(tmp_path))[11]
    assert {Path(file).parent for file in row["files"]} == {Path("multi30k_gpu/results")}

    results = ROOT / "configs/multi30k/results"
    shutil.copy(results / "capacity/capacity.json", paper)
    shutil.copy(results / "decoding/decoding.json", paper)
    write_json(mini / "vanilla_nat_distilled_nano.json", {"scores": {"bleu": scored(5)}})
    write_json(mini / "cmlm_distilled_nano.json", {"scores": {"bleu": scored(5)}})
    rows, short = list(judge(tmp_path)), list(judge(ROOT / "configs"))
    files = {8: "capacity", 9: "capacity", 10: "decoding", 11: "decoding", 14: "capacity"}
    for number, name in files.items():
        assert rows[number - 1]["files"] == [f"multi30k_gpu/results/{name}.json"]
    corpora = {row["name"]: row for row in read_json(paper / "capacity.json")["corpora"]}
    weak, strong = corpora["nano"], corpora["mini"]
    assert {name: row["value"] for name, row in rows[7]["effects"].items()} == {
        "C, mini over nano": strong["complexity"] - weak["complexity"],
        "F, nano over mini": weak["faithfulness"] - strong["faithfulness"],
    }
    closer = rows[8]["effects"]["mini over nano"]
    assert closer["value"] == strong["training_bleu"] - weak["training_bleu"]
    assert {*rows[9]["effects"]} == {*short[9]["effects"]}
    steps = CLAIMS[10].effects(read_json(paper / "decoding.json"))  # of these two seeds
    assert rows[10]["effects"] == {name: asdict(effect) for name, effect in steps.items()}
    assert set(rows[13]["effects"]) == {"levenshtein_transformer over vanilla_nat"}


def test_studies_that_hold_differences_of_corpora_have_paired_intervals(tmp_path: Path) -> None:
    def paired(first: str, second: str, *measures: str) -> dict[str, Any]:
        return {"first": first, "second": second, **{name: {"value": 0, "interval": [-2, 3]} for name in measures}}

    def judged() -> dict[int, set[tuple[float, float, str]]]:
        rows = dict(enumerate(judge(tmp_path), start=1))
        return {n: {tuple(e[k] for k in ("low", "high", "basis")) for e in rows[n]["effects"].values()} for n in names}

    names = {4: "multimodality", 5: "multimodality", 15: "born_again", 16: "born_again"}
    files = [claim.files[0] for claim in CLAIMS]
    studies = {files[n - 1]: read_json(ROOT / "configs" / files[n - 1]) for n in names}
    assert len(studies) == 2
    for study in studies.values():
        study.pop("differences", None)  # As the studies that were made before these were recorded.
    for file, study in studies.items():
        write_json(tmp_path / file, study)
    assert {basis for effects in judged().values() for *_, basis in effects} == {"widest"}

    single = ["random selection", "concatenated", "distilled", "de", "fr", "cs"]
    studies[files[3]]["differences"] = {
        "words": [paired(*pair, "complexity") for pair in combinations(single, 2)],
        "pieces": [],
    }
    studies[files[14]]["differences"] = [
        paired(f"iteration {i}", f"iteration {i + 1}", "complexity", "faithfulness") for i in range(3)
    ]
    for file, study in studies.items():
        write_json(tmp_path / file, study)
    same, turned = (-2, 3, "paired bootstrap"), (-3, 2, "paired bootstrap")
    assert judged() == {4: {same, turned}, 5: {same}, 15: {same}, 16: {turned}}


def test_committed_page_is_that_of_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["experiment", "report", f"--output_dir={tmp_path}"]) == 0
    assert (tmp_path / "report.md").read_text() == (ROOT / "configs/claims/results/report.md").read_text()
    rows, committed = read_json(tmp_path / "claims.json"), read_json(ROOT / "configs/claims/results/claims.json")
    assert rows == committed
    used = {file for row in rows if row["effects"] for file in row["files"]}
    assert len(used) > 15 and all((ROOT / "configs" / file).is_file() for file in used)
    assert {row["text"] for row in rows if not row["known"] and row["verdict"] != "confirmed"} == set()
