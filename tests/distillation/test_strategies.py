from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from sacrebleu.metrics import BLEU
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.data.encoding import encode
from hf_nat.decoding import translate
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.sampling import RowSampler
from hf_nat.distillation.strategies import STRATEGIES, Nearest
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


def draws(scores: torch.Tensor, rows: int, top_k: int | None, step: int = 0, seed: int = 1) -> torch.Tensor:
    """Draws a token for each of many rows with one distribution."""
    sampler = RowSampler(seed, range(rows), 5, top_k)
    processed = sampler(torch.zeros(rows, 1 + step, dtype=torch.long), scores.expand(rows, -1))
    assert processed.isfinite().sum(dim=1).eq(1).all()
    return processed.argmax(dim=1)


@pytest.mark.parametrize("top_k", [None, 3])
def test_draws_follow_the_distribution(top_k: int | None) -> None:
    scores = torch.tensor([[1.0, -torch.inf, 2.0, 0.5, 3.0, -1.0]])
    probs = scores.softmax(dim=1)[0]
    if top_k is not None:
        probs = probs.where(probs >= probs.sort(descending=True).values[top_k - 1], 0.0)
        probs /= probs.sum()
    counts = torch.bincount(draws(scores, 20_000, top_k), minlength=6).double()
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
    assert (draws(scores, 50, None, step=1) != whole).sum() > 40
    assert (draws(scores, 50, None, seed=2) != whole).sum() > 40


def test_first_of_one_is_greedy() -> None:
    scores = torch.randn(1, 30)
    assert (draws(scores, 20, 1) == scores.argmax()).all()


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_targets_do_not_depend_on_batches_and_shards(strategy: str, targets: Callable[..., list[str]]) -> None:
    whole = targets(strategy=strategy)
    assert targets(strategy=strategy, shard_size=4, max_batch_tokens=9) == whole
    assert targets(strategy=strategy, shard_size=100) == whole


@pytest.mark.parametrize("strategy", ["sampling", "top-k"])
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
    assert Nearest(["c d"], "13a")(0, ["a b", "b a"]) == 0
    assert Nearest(["b a"], "13a")(0, ["a b", "b a"]) == 1


def test_the_nearest_of_a_language_without_spaces_is_told_by_characters(
    arguments: Callable[..., DistillArguments],
) -> None:
    args = arguments(strategy="interpolation", target_lang="zho_Hans")
    assert args.decoding_parameters()["choice"].startswith("sentence BLEU, tok:zh, smooth:exp")
    choose = args.translate_kwargs([0], ["今天天气很好。"])["choose"]
    assert choose(0, ["他买了手机。", "今天天气不错。"]) == 1


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

    def choose(row: int, candidates: list[str]) -> int:
        seen[row] = candidates
        return 2

    decoding = {"num_beams": 4, "length_penalty": 1.0, "max_new_tokens": 12, "with_scores": True}
    last = translate(copy_teacher, tiny_tokenizer, sources, num_return_sequences=3, choose=choose, **decoding)
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
