"""Several corpora as one: rows, weights, traces, and training on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json, write_json
from hf_nat.cards import model_card
from hf_nat.distillation import DistillArguments, FilterArguments, MixArguments
from hf_nat.evaluation import EvaluateArguments
from hf_nat.steps import Filter, Mix, distill
from hf_nat.training.arguments import DataArguments


LANGUAGES = {"source_lang": "en", "target_lang": "xx"}


@pytest.fixture
def corpora(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    sources: list[str],
    corpus: str,
    tmp_path: Path,
) -> dict[str, str]:
    """A 2-best corpus, sources alone, and the real corpus."""
    (tmp_path / "news.en").write_text("".join(f"{source}\n" for source in sources[:4]))
    runs: dict[str, dict[str, Any]] = {
        "best": {"strategy": "n-best", "num_candidates": 2},
        "mono": {"corpus": None, "source": str(tmp_path / "news.en"), "strategy": "greedy"},
    }
    for name, changes in runs.items():
        distill(copy_teacher, tiny_tokenizer, arguments(name, **changes))
    return {"best": str(tmp_path / "best"), "mono": str(tmp_path / "mono"), "real": corpus}


@pytest.fixture
def mix(corpora: dict[str, str], tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Mixes them and returns the training rows."""

    def run(output_dir: str, **changes: Any) -> list[dict[str, Any]]:
        args = MixArguments(
            output_dir=str(tmp_path / output_dir),
            **LANGUAGES,
            **{
                "corpora": [f"{name}={place}" for name, place in corpora.items()],
                **{"validation_split": None, "test_split": None, "shard_size": 7},
                **changes,
            },
        )
        folder = Mix(args).run()
        return list(load_dataset(str(folder), split="train", cache_dir=str(tmp_path / output_dir / ".cache")))

    return run


def test_a_license_that_comes_later_changes_no_row(mix: Callable[..., list[dict[str, Any]]], tmp_path: Path) -> None:
    rows, before = mix("mixed"), read_json(tmp_path / "mixed/manifest.json")
    assert mix("mixed", license="cc-by-4.0") == rows
    assert read_json(tmp_path / "mixed/manifest.json") == before | {"license": "cc-by-4.0"}


def test_rows_keep_their_columns_and_say_where_they_come_from(
    mix: Callable[..., list[dict[str, Any]]],
    corpora: dict[str, str],
    rows: Callable,
    sources: list[str],
    tmp_path: Path,
) -> None:
    found = mix("mixed")
    assert Counter(row["corpus"] for row in found) == {"best": 11, "mono": 4, "real": 11}
    assert [row["corpus"] for row in found] != sorted(row["corpus"] for row in found), "mixed, not one by one"
    for name in ("best", "mono"):
        own = sorted((row for row in found if row["corpus"] == name), key=lambda row: row["id"])
        for row, before in zip(own, rows(Path(corpora[name])), strict=True):
            assert {key: row[key] for key in before} == before
            assert (row["targets"] == []) is (name == "mono")
    real = sorted((row for row in found if row["corpus"] == "real"), key=lambda row: row["id"])
    assert [(row["id"], row["translation"]["en"], row["real_target"]) for row in real] == [
        (number, source, f"real {source}") for number, source in enumerate(sources)
    ]
    assert all((row["teacher_score"], row["flags"], row["targets"]) == (None, [], []) for row in real)
    manifest = read_json(tmp_path / "mixed" / "manifest.json")
    assert (manifest["counts"], manifest["flag_counts"]["source_alone"]) == ({"train": 26}, 4)
    parts = {part["name"]: part for part in manifest["mix"]}
    assert parts["best"]["strategy"] == "n-best" and parts["mono"]["source_alone"] and "teacher" not in parts["real"]
    card = (tmp_path / "mixed" / "README.md").read_text()
    assert "| best | " in card and "none, real targets" in card
    assert "some targets are real, the others were written by an autoregressive teacher" in card
    assert "| default | en-xx | train | teacher, and real of some corpora | 26 |" in card
    assert "null in rows with the flag `source_alone`" in card


def test_a_mix_keeps_and_tells_what_was_done_to_its_parts(
    mix: Callable[..., list[dict[str, Any]]],
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    tmp_path: Path,
) -> None:
    noise = {"typos": 0.5, "casing": 0.25}
    noisy = distill(copy_teacher, tiny_tokenizer, arguments("noisy", strategy="greedy", source_noise=noise))
    rule = {"drop": ["none"], "max_per_source": 1}
    kept = Filter(FilterArguments(corpus=str(noisy), output_dir=str(tmp_path / "kept"), **rule)).run()
    made = read_json(kept / "manifest.json")
    made |= {"teachers": ["the teacher", "runs/second"], "judge_names": {"quality": "judge.py:f"}, "union": [{"a": 1}]}
    write_json(kept / "manifest.json", made)
    mix("mixed", corpora=[f"kept={kept}"])
    (part,) = read_json(tmp_path / "mixed/manifest.json")["mix"]
    gone = {"shards", "counts", "flag_counts", "source_lang", "target_lang", "shard_size"}
    assert {name: part[name] for name in made.keys() - gone} == {name: made[name] for name in made.keys() - gone}
    assert not gone & part.keys()
    assert part["splits"] == {"train": "train", "validation": "dev", "test": "eval"}
    assert read_json(tmp_path / "mixed/manifest.json")["splits"] == {"train": "train"}
    (applied,) = made["filters"]
    told = (
        "Noise of the sources: `casing=0.25`, `typos=0.5`; Further teachers: runs/second; "
        f"Judge, `quality`: judge.py:f; Left out: {applied['num_dropped']} of 11 rows by `max_per_source=1`"
    )
    assert f"| {told} |" in (tmp_path / "mixed/README.md").read_text()
    assert "| Noise of the sources, shares | `casing=0.25`, `typos=0.5` |" in (noisy / "README.md").read_text()

    write_json(tmp_path / "model/config.json", {"model_type": "ctc_nat"})
    for corpus, wanted in {
        "mixed": [f"of `kept`, by the teacher, greedy ({told}) |"],
        "kept": [f"| {one.replace(': ', ' | ', 1)} |" for one in told.split("; ")],
    }.items():
        run = {"arguments": {**LANGUAGES, "corpus": str(tmp_path / corpus)}, "num_parameters": 1}
        write_json(tmp_path / "model/run.json", {**run, "environment": {"device": "cpu", "versions": {}}})
        card = model_card(tmp_path / "model")
        assert all(text in card for text in wanted)


def test_cards_of_a_mix_say_of_its_targets_what_is_so(
    mix: Callable[..., list[dict[str, Any]]], corpora: dict[str, str], tmp_path: Path
) -> None:
    for name in ("best", "real"):
        mix(f"{name} alone", corpora=[f"{name}={corpora[name]}"])
    distilled, real = ((tmp_path / f"{name} alone/README.md").read_text() for name in ("best", "real"))
    assert "| train | teacher | 11 |" in distilled and "some targets are real" not in distilled
    assert "| train | real | 11 |" in real

    mix("mixed")
    arguments = {**LANGUAGES, "corpus": str(tmp_path / "mixed")}
    write_json(tmp_path / "model/config.json", {"model_type": "ctc_nat"})
    environment = {"device": "cpu", "versions": {}}
    run = {"arguments": arguments, "num_parameters": 1, "environment": environment}
    write_json(tmp_path / "model/run.json", run)
    told = (
        "11 of `best`, by the teacher, n-best; 4 of `mono`, by the teacher, greedy (Real targets: none, sources "
        "alone); 11 of `real`, real"
    )
    assert f"| Targets | {told} |" in model_card(tmp_path / "model")


def test_weights_repeat_and_leave_out_rows_by_the_seed(mix: Callable[..., list[dict[str, Any]]]) -> None:
    def counts(found: list[dict[str, Any]]) -> Counter:
        return Counter((row["corpus"], row["id"]) for row in found)

    weighted = counts(mix("weighted", weights=[2.0, 1.5, 0.25]))
    assert [sum(n for (name, _), n in weighted.items() if name == own) for own in ("best", "mono", "real")] == [
        22,
        6,
        3,
    ]
    assert {n for (name, _), n in weighted.items() if name == "best"} == {2}
    assert sorted(n for (name, _), n in weighted.items() if name == "mono") == [1, 1, 2, 2]
    assert {n for (name, _), n in weighted.items() if name == "real"} == {1}
    assert counts(mix("same", weights=[2.0, 1.5, 0.25])) == weighted
    assert counts(mix("other", weights=[2.0, 1.5, 0.25], seed=2)) != weighted


def test_bytes_follow_from_corpora_and_arguments_alone(
    mix: Callable[..., list[dict[str, Any]]], file_bytes: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        mix(name)
    one, two = (
        {path: data for path, data in file_bytes(tmp_path / name).items() if path.startswith("data/")}
        for name in ("one", "two")
    )
    assert one == two and len(one) == 4
    mix("one")
    with pytest.raises(ValueError, match="`weights.best` must be the same .* it was 1.0, got 2.0"):
        mix("one", weights=[2.0, 1.0, 1.0])


def test_training_reads_lists_of_corpora_and_every_target(corpora: dict[str, str], rows: Callable) -> None:
    def pairs(**changes: Any) -> list[tuple[str, str]]:
        data = DataArguments(**{"validation_split": "validation", **LANGUAGES, **changes})
        return [(pair["en"], pair["xx"]) for pair in data.load_splits()[0]["translation"]]

    best = rows(Path(corpora["best"]))
    all_targets = [(row["translation"]["en"], text) for row in best for text in row["targets"]]
    assert len(all_targets) > len(best)
    assert pairs(corpus=corpora["best"]) == all_targets
    # What a student learned from is also what its output, and a short list for it, are compared with.
    place = {"model": "m", "corpus": corpora["real"], **LANGUAGES}
    learned = EvaluateArguments(training_corpus=corpora["best"], **place).load_training_rows()
    listed = EvaluateArguments(shortlist=corpora["best"], **place).load_shortlist()
    for found in (learned, listed):
        assert [(pair["en"], pair["xx"]) for pair in found["translation"]] == all_targets
    firsts = [(row["translation"]["en"], row["targets"][0]) for row in best]
    assert pairs(corpus=corpora["best"], num_targets=1) == firsts
    mono = [(row["translation"]["en"], row["translation"]["xx"]) for row in rows(Path(corpora["mono"]))]
    assert pairs(corpus=[corpora["best"], corpora["mono"] + "#default"], num_targets=1) == [*firsts, *mono]
    data = DataArguments(corpus=[corpora["best"], corpora["mono"]], **LANGUAGES)
    train, validation = data.load_splits()
    assert validation is not None and len(validation) == 3 and len(data.load_train()) == len(train)
    with pytest.raises(ValueError, match="`corpus` must name a corpus, or several without `config_name`"):
        DataArguments(corpus=[corpora["best"]], config_name="a", **LANGUAGES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpora": []}, "`corpora` must name at least 1 corpus"),
        ({"corpora": ["a=x", "a=y"]}, "Names of corpora must be distinct"),
        ({"weights": [1.0]}, "`weights` must be as many as `corpora`, got 1 and 2"),
        ({"weights": [1.0, 0.0]}, "`weights` must be > 0 and <= 1000, got 0.0"),
        ({"weights": [1.0, float("nan")]}, "`weights` must be a finite number > 0 and <= 1000, got nan"),
        ({"shard_size": 0}, "`shard_size` must be >= 1, got 0"),
        ({"target_lang": "en"}, "`source_lang` and `target_lang` must differ"),
    ],
)
def test_arguments_that_break_a_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixArguments(**{"corpora": ["x", "y"], "output_dir": "z", **LANGUAGES, **changes})


@pytest.mark.parametrize("split", ["validation_split", "test_split"])
def test_split_that_repeats_the_training_rows_is_warned_of(
    mix: Callable[..., list[dict[str, Any]]], corpora: dict[str, str], caplog: Any, split: str
) -> None:
    real = [f"real={corpora['real']}"]
    mix("apart", corpora=real, **{split: "dev"})
    assert "say nothing about new text" not in caplog.text
    mix("copied", corpora=real, **{split: "train"})
    assert f"Give `{split}: null`" in caplog.text and "say nothing about new text" in caplog.text
