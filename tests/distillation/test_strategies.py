from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from distillation.strategy_runs import RUNS
from sacrebleu.metrics import BLEU
from transformers import MarianMTModel, PreTrainedTokenizerFast, TopKLogitsWarper, TopPLogitsWarper

from hf_nat.base.utils import read_json
from hf_nat.data.encoding import encode
from hf_nat.decoding import translate
from hf_nat.decoding.translations import highest
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.choice import _JUDGES, load_judge
from hf_nat.distillation.judges import RealTarget
from hf_nat.distillation.sampling import RowSampler
from hf_nat.distillation.strategies import CHOOSING, STRATEGIES
from hf_nat.steps import distill


@pytest.fixture
def targets(
    unsure_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> Callable[..., list[str]]:
    """Distills and returns the training targets."""
    count = iter(range(100))

    def run(**changes: object) -> list[str]:
        folder = distill(unsure_teacher, tiny_tokenizer, arguments(f"run{next(count)}", **changes))
        paths = sorted(Path(folder).glob("data/train-*.parquet"))
        return [row["translation"]["xx"] for path in paths for row in pq.read_table(path).to_pylist()]

    return run


def draws(
    scores: torch.Tensor, rows: int, top_k: int | None, step: int = 0, seed: int = 1, **cut: Any
) -> torch.Tensor:
    """Draws a token for each of many rows with one distribution."""
    sampler = RowSampler(seed, range(rows), 5, top_k, **cut)
    processed = sampler(torch.zeros(rows, 1 + step, dtype=torch.long), scores.expand(rows, -1))
    assert processed.isfinite().sum(dim=1).eq(1).all()
    return processed.argmax(dim=1)


@pytest.mark.parametrize(
    "cut",
    [
        {},
        {"top_k": 3},
        {"top_p": 0.9},
        {"top_p": 0.5},
        {"top_p": 1.0},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 4, "top_p": 0.8, "temperature": 1.5},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(cut: dict[str, Any]) -> None:
    """Against transformers' own warpers, in their order."""
    scores = torch.tensor([[1.0, -torch.inf, 2.0, 0.5, 3.0, -1.0]])
    warped = scores / cut.get("temperature", 1.0)
    if "top_k" in cut:
        warped = TopKLogitsWarper(cut["top_k"])(None, warped)
    if "top_p" in cut:
        warped = TopPLogitsWarper(cut["top_p"])(None, warped)
    probs = warped.softmax(dim=1)[0]
    counts = torch.bincount(draws(scores, 20_000, **{"top_k": None} | cut), minlength=6).double()
    possible = probs > 0
    assert counts[~possible].sum() == 0
    expected = 20_000 * probs[possible]
    chi_square = ((counts[possible] - expected) ** 2 / expected).sum()
    assert chi_square < 20.5  # 5 categories: exceeded by one seed in a thousand


def test_draws_belong_to_seed_row_and_step() -> None:
    scores = torch.zeros(1, 1000)
    whole = draws(scores, 50, None)
    part = RowSampler(1, [7, 31], 5)(torch.zeros(2, 1, dtype=torch.long), scores.expand(2, -1)).argmax(dim=1)
    assert part.tolist() == [whole[7], whole[31]]
    rows = range(50)
    first, second = (
        RowSampler(1, rows, 5, samples=[k] * 50)(torch.zeros(50, 1, dtype=torch.long), scores.expand(50, -1))
        for k in (0, 1)
    )
    assert first.argmax(dim=1).tolist() == whole.tolist(), "the first sample is the only one of `sampling`"
    assert (second.argmax(dim=1) != whole).sum() > 40
    assert (draws(scores, 50, None, step=1) != whole).sum() > 40
    assert (draws(scores, 50, None, seed=2) != whole).sum() > 40


def test_first_of_one_is_greedy() -> None:
    scores = torch.randn(1, 30)
    assert (draws(scores, 20, 1) == scores.argmax()).all()


def test_the_runs_are_of_all_strategies() -> None:
    assert {run["strategy"] for run in RUNS.values()} == STRATEGIES.keys()


def test_the_manifest_names_a_choice_where_there_is_one(arguments: Callable[..., DistillArguments]) -> None:
    assert _JUDGES.keys() == set(CHOOSING)
    for name, strategy in STRATEGIES.items():
        decoding = arguments(strategy=name, **({"quality": "a:b"} if name == "rerank" else {})).decoding_parameters()
        assert ("choice" in decoding) == ("num_return_sequences" in decoding) == (strategy.outputs != "one")


@pytest.mark.parametrize("name", RUNS)
def test_targets_do_not_depend_on_batches_and_shards(name: str, targets: Callable[..., list[str]]) -> None:
    whole = targets(**RUNS[name])
    assert targets(**RUNS[name], shard_size=4, max_batch_tokens=9) == whole
    assert targets(**RUNS[name], shard_size=100) == whole


@pytest.mark.parametrize("strategy", ["sampling", "top-k", "top-p"])
def test_samples_vary_with_the_seed_alone(strategy: str, targets: Callable[..., list[str]]) -> None:
    first = targets(strategy=strategy, seed=1)
    assert targets(strategy=strategy, seed=1) == first
    assert targets(strategy=strategy, seed=2) != first


def test_top_k_of_one_is_greedy(targets: Callable[..., list[str]]) -> None:
    assert targets(strategy="top-k", top_k=1) == targets(strategy="greedy")


def test_interpolation_keeps_the_candidate_nearest_to_the_real_target(
    unsure_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sources: list[str],
    targets: Callable[..., list[str]],
) -> None:
    chosen = targets(strategy="interpolation", num_beams=5, num_candidates=4)
    assert chosen != targets(strategy="beam", num_beams=5)
    bleu = BLEU(effective_order=True)
    for source, target in zip(sources, chosen, strict=True):
        if not source:
            assert target == ""
            continue
        inputs = torch.tensor(encode(tiny_tokenizer, [source])["input_ids"])
        outputs = unsure_teacher.generate(
            inputs, num_beams=5, num_return_sequences=4, length_penalty=1.0, early_stopping=True, max_new_tokens=12
        )
        candidates = [text.strip() for text in tiny_tokenizer.batch_decode(outputs, skip_special_tokens=True)]
        scores = [bleu.sentence_score(text, [f"real {source}"]).score for text in candidates]
        assert target == candidates[scores.index(max(scores))]


def test_a_tie_goes_to_the_higher_model_score() -> None:
    judge = RealTarget("13a")
    assert judge([""], ["c d"], [["a b", "b a"]]) == [[0.0, 0.0]]
    assert highest(judge([""], ["b a"], [["a b", "b a", "b a"]])[0]) == 1
    assert highest([0.0, 0.0]) == 0


def test_the_nearest_of_a_language_without_spaces_is_told_by_characters(
    arguments: Callable[..., DistillArguments],
) -> None:
    args = arguments(strategy="interpolation", target_lang="zho_Hans")
    assert args.decoding_parameters()["choice"].startswith("sentence BLEU, tok:zh, smooth:exp")
    judge, _ = load_judge(args)
    assert judge is not None
    assert highest(judge([""], ["今天天气很好。"], [["他买了手机。", "今天天气不错。"]])[0]) == 1


def test_manifest_records_what_the_outputs_depend_on(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> None:
    def decoding(name: str, **changes: object) -> dict:
        folder = distill(copy_teacher, tiny_tokenizer, arguments(name, **changes))
        return read_json(folder / "manifest.json")["decoding"]

    assert decoding("a", strategy="top-k", top_k=7) == {
        "do_sample": True,
        "num_beams": 1,
        "top_k": 7,
        "max_new_tokens": 12,
        "max_length_a": 2.0,
        "max_length_b": 20,
        "backend": "torch",
    }
    interpolation = decoding("b", strategy="interpolation")
    assert interpolation["num_return_sequences"] == 3
    assert interpolation["choice"].startswith("sentence BLEU, tok:13a, smooth:exp, eff:yes, sacrebleu ")


def test_candidates_are_given_best_first_and_the_chosen_one_is_scored(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, sources: list[str]
) -> None:
    seen: dict[int, list[str]] = {}

    def third(rows: list[int], candidates: list[list[str]]) -> list[list[float]]:
        seen.update(zip(rows, candidates, strict=True))
        return [[0.0, 0.0, 1.0] for _ in rows]

    decoding = {"num_beams": 4, "length_penalty": 1.0, "max_new_tokens": 12, "with_scores": True}
    last = translate(copy_teacher, tiny_tokenizer, sources, num_return_sequences=3, judge=third, **decoding)
    best = translate(copy_teacher, tiny_tokenizer, sources, **decoding)
    first = translate(copy_teacher, tiny_tokenizer, sources, num_return_sequences=3, **decoding)
    assert [output.text for output in first] == [output.text for output in best]
    assert sorted(seen) == [row for row, source in enumerate(sources) if source]
    for row, candidates in seen.items():
        assert len(candidates) == 3
        assert candidates[0] == best[row].text
        assert candidates[2] == last[row].text
        assert last[row].score < best[row].score


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "viterbi"}, "`strategy` must be one of"),
        ({"strategy": "top-k", "top_k": 0}, "`top_k` must be >= 1, got 0"),
        ({"strategy": "top-p", "top_p": 0.0}, "`top_p` must be > 0 and <= 1, got 0.0"),
        ({"strategy": "top-p", "top_p": 1.1}, "`top_p` must be > 0 and <= 1, got 1.1"),
        ({"strategy": "sampling", "temperature": 0.0}, "`temperature` must be > 0, got 0.0. Use 1.0"),
        (
            {"strategy": "sampling", "temperature": float("inf")},
            "`temperature` must be a finite number > 0, got inf. Use 1.0",
        ),
        ({"strategy": "n-best", "num_candidates": 6}, "`num_candidates` must be <= `num_beams`, got 6 and 5"),
        ({"strategy": "rerank"}, "must have one judge, `backward_teacher` or `quality`, got none"),
        ({"strategy": "rerank", "quality": "a", "backward_teacher": "b"}, "got backward_teacher and quality"),
        ({"strategy": "beam", "quality": "a"}, "`quality` must be left out for the strategy 'beam'"),
        ({"strategy": "beam", "temperature": 0.5}, "where it has no effect with the strategy 'beam', got 0.5"),
        ({"strategy": "greedy", "candidates": "sampling"}, "`candidates` must be left out where it has no effect"),
        ({"strategy": "beam", "num_candidates": 3}, "`num_candidates` must be left out where it has no effect"),
        ({"strategy": "rerank", "quality": "a:b", "utility": "bleu"}, "`utility` must be left out where"),
        ({"strategy": "rerank", "quality": "a:b", "utility_options": {}}, "`utility_options` must be left out"),
        ({"strategy": "rerank", "quality": "a:b", "backward_prefix": ">>x<<"}, "`backward_prefix` must be left out"),
        ({"strategy": "mbr", "expand": True}, "`expand` must be left out for the strategy 'mbr'"),
        ({"backend": "ct2", "strategy": "mbr", "candidates": "sampling"}, "`backend` must be torch for .* 'mbr'"),
        ({"strategy": "interpolation", "num_candidates": 6}, "`num_candidates` must be <= `num_beams`, got 6 and 5"),
    ],
)
def test_arguments_that_break_a_rule(changes: dict, message: str, arguments: Callable[..., DistillArguments]) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


def test_expert_of_a_plain_teacher_is_an_error_before_anything_is_written(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> None:
    args = arguments(expert=0)
    with pytest.raises(ValueError, match="`expert` must be left out for a model without experts, got 0"):
        distill(copy_teacher, tiny_tokenizer, args)
    assert not Path(args.output_dir).exists()
