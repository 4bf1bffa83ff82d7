"""Drafts that a teacher verifies: its greedy output, token for token, whatever the draft."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import MarianConfig, MarianMTModel, MaxTimeCriteria, PreTrainedModel

from hf_nat import (
    CMLMConfig,
    CMLMForConditionalGeneration,
    CTCNATConfig,
    CTCNATForConditionalGeneration,
    LevenshteinTransformerConfig,
    LevenshteinTransformerForConditionalGeneration,
    MoEMarianConfig,
    MoEMarianMTModel,
    VanillaNATConfig,
    VanillaNATForConditionalGeneration,
)
from hf_nat.decoding import Draft, DraftCounts, Translator, translate
from hf_nat_cli import main


UNSEEN = ["two dogs run", "the woman walks", "a red street", "hello hello", "the men in the park", "a"]
SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2} | {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VOCAB = 30


def random_teacher(seed: int, **settings: object) -> MarianMTModel:
    """A teacher in double precision that writes more than one token again and again."""
    torch.manual_seed(seed)
    config = MarianConfig(
        vocab_size=VOCAB, decoder_start_token_id=0, forced_eos_token_id=None, init_std=0.7, **SPECIAL, **SIZES
    )
    config.update(settings)
    return MarianMTModel(config).eval().double()


def new_student(model_class: type = VanillaNATForConditionalGeneration, **changes: object) -> PreTrainedModel:
    torch.manual_seed(1)
    configs = {
        CMLMForConditionalGeneration: CMLMConfig,
        CTCNATForConditionalGeneration: CTCNATConfig,
        LevenshteinTransformerForConditionalGeneration: LevenshteinTransformerConfig,
        VanillaNATForConditionalGeneration: VanillaNATConfig,
    }
    return model_class(
        configs[model_class](**{"vocab_size": VOCAB, "mask_token_id": 4, **SPECIAL, **SIZES, **changes})
    ).eval()


def sources(number: int, width: int = 12) -> dict[str, torch.Tensor]:
    """Random sources of several lengths, right-padded."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, width + 1, (number, 1), generator=generator)
    places = torch.arange(width)
    input_ids = torch.randint(5, VOCAB, (number, width), generator=generator)
    input_ids = input_ids.masked_fill(places == lengths - 1, 2).masked_fill(places >= lengths, 0)
    return {"input_ids": input_ids, "attention_mask": (places < lengths).long()}


def greedy(teacher: PreTrainedModel, inputs: dict[str, torch.Tensor], **settings: object) -> torch.Tensor:
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": 1} | settings
    return teacher.generate(**inputs, **options)


def damaged(target: Sequence[int], chance: random.Random, rate: float) -> list[int]:
    """A target, up to its EOS, some of whose tokens are replaced, left out or doubled."""
    draft: list[int] = []
    for token in target[: target.index(2)] if 2 in target else target:
        kind = chance.choice(["replace", "omit", "double"]) if chance.random() < rate else "keep"
        draft += {"keep": [token], "replace": [chance.randrange(5, VOCAB)], "omit": [], "double": [token] * 2}[kind]
    return [*draft, 2]


def drafting(
    monkeypatch: pytest.MonkeyPatch, drafts: Callable[[list[int]], list[int]], student: PreTrainedModel | None = None
) -> PreTrainedModel:
    """A student that drafts as a function of the source's tokens says."""
    student = student or new_student()

    def generate(inputs: torch.Tensor, attention_mask: torch.Tensor, **kwargs: object) -> torch.Tensor:
        rows = [drafts(ids[mask.bool()].tolist()) for ids, mask in zip(inputs, attention_mask, strict=True)]
        width = max(map(len, rows))
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])

    monkeypatch.setattr(student, "generate", generate)
    return student


def damaged_greedy(
    monkeypatch: pytest.MonkeyPatch,
    teacher: PreTrainedModel,
    inputs: dict[str, torch.Tensor],
    rate: float,
    **settings: object,
) -> PreTrainedModel:
    """A student whose drafts are the teacher's greedy outputs with mistakes."""
    chance = random.Random(5)
    drafts = {
        tuple(ids[mask.bool()].tolist()): damaged(target[1:], chance, rate)
        for ids, mask, target in zip(
            inputs["input_ids"],
            inputs["attention_mask"],
            greedy(teacher, inputs, **settings).tolist(),
            strict=True,
        )
    }
    return drafting(monkeypatch, lambda source: drafts[tuple(source)])


def first(inputs: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    return {name: value[rows] for name, value in inputs.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_output_is_the_greedy_one_of_random_teachers(seed, rate, monkeypatch):
    teacher, inputs = random_teacher(seed), sources(9)
    expected = greedy(teacher, inputs)
    assert len({tuple(row) for row in expected.tolist()}) > 4
    student = damaged_greedy(monkeypatch, teacher, inputs, rate)
    for length, size in product((1, 2, 5, 25), (1, 4, 9)):
        for start in range(0, 9, size):
            part, draft = first(inputs, slice(start, start + size)), Draft(student, length=length)
            output = greedy(teacher, part, custom_generate=draft, return_dict_in_generate=True)
            rows = expected[start : start + size]
            assert output.sequences.tolist() == rows[:, : int(rows.ne(0).cumsum(1).argmax(1).max()) + 1].tolist()
            own = output.sequences[:, 1:].ne(0).sum(dim=1) - output.accepted_tokens
            assert ((own == output.teacher_calls) | (own == output.teacher_calls - 1)).all()


def test_a_perfect_draft_needs_one_call_and_a_useless_one_as_many_as_tokens(monkeypatch):
    teacher, inputs = random_teacher(0), sources(9)
    plain = greedy(teacher, inputs)
    num_tokens = plain[:, 1:].ne(0).sum(dim=1)
    ends = plain.eq(2).any(dim=1)
    perfect = damaged_greedy(monkeypatch, teacher, inputs, 0.0)
    output = greedy(teacher, inputs, custom_generate=Draft(perfect), return_dict_in_generate=True)
    assert output.teacher_calls.tolist() == [1] * 9
    # Of an output without EOS the last token is the teacher's own.
    assert output.accepted_tokens.tolist() == (num_tokens - (~ends).long()).tolist()
    empty = drafting(monkeypatch, lambda source: [2])
    output = greedy(teacher, inputs, custom_generate=Draft(empty), return_dict_in_generate=True)
    assert output.sequences.tolist() == plain.tolist()
    assert (output.teacher_calls >= num_tokens - output.accepted_tokens).all()


def test_how_far_a_sentence_goes_does_not_depend_on_its_batch(monkeypatch):
    teacher, inputs = random_teacher(1), sources(9)
    draft = Draft(damaged_greedy(monkeypatch, teacher, inputs, 0.3), length=4)
    together = greedy(teacher, inputs, custom_generate=draft, return_dict_in_generate=True)
    assert len(set(together.teacher_calls.tolist())) > 2
    for row in range(9):
        part = first(inputs, slice(row, row + 1))
        alone = greedy(teacher, part, custom_generate=draft, return_dict_in_generate=True)
        for name in ("teacher_calls", "accepted_tokens"):
            assert alone[name].item() == together[name][row].item()


def test_a_draft_is_verified_in_parts_where_the_scores_would_not_fit(monkeypatch):
    teacher, inputs = random_teacher(0), sources(9)
    expected = greedy(teacher, inputs)
    student = damaged_greedy(monkeypatch, teacher, inputs, 0.1)
    widths = []
    forward = teacher.forward
    monkeypatch.setattr(
        teacher, "forward", lambda **kwargs: widths.append(kwargs["decoder_input_ids"].shape) or forward(**kwargs)
    )
    for limit in (1, 9 * VOCAB * 3):
        monkeypatch.setattr("hf_nat.decoding.drafted_rows._MAX_SCORES", limit)
        widths.clear()
        assert greedy(teacher, inputs, custom_generate=Draft(student)).tolist() == expected.tolist()
        assert all(width == 1 or rows * width * VOCAB <= limit for rows, width in widths)


@pytest.mark.parametrize(
    "model_class",
    [
        CMLMForConditionalGeneration,
        CTCNATForConditionalGeneration,
        LevenshteinTransformerForConditionalGeneration,
        VanillaNATForConditionalGeneration,
    ],
)
def test_any_student_drafts(model_class):
    teacher, inputs, student = random_teacher(2), sources(6), new_student(model_class)
    for settings in ({}, {"max_new_tokens": 1}, {"max_new_tokens": 39}):
        expected = greedy(teacher, inputs, **settings)
        draft = Draft(student, length=6, generate_kwargs={"max_iterations": 1})
        assert greedy(teacher, inputs, **settings, custom_generate=draft).tolist() == expected.tolist()


def test_a_student_that_fills_masks_reads_what_was_accepted(monkeypatch):
    teacher, inputs = random_teacher(1), sources(5)
    student = new_student(CMLMForConditionalGeneration)
    lengths = student.generate(**inputs, max_iterations=1).ne(0).sum(dim=1).tolist()
    canvases = []
    forward = student.forward

    def spy(**kwargs):
        canvases.append(kwargs["decoder_input_ids"])
        return forward(**kwargs)

    monkeypatch.setattr(student, "forward", spy)
    draft = Draft(student, generate_kwargs={"max_iterations": 1})
    for row in range(5):
        canvases.clear()
        (sequence,) = greedy(teacher, first(inputs, slice(row, row + 1)), custom_generate=draft)[:, 1:].tolist()
        assert canvases
        for canvas in canvases:
            (tokens,) = canvas.tolist()
            known = len(tokens) - 1 - tokens.count(4) if 4 not in sequence else None
            if known is not None:
                assert tokens == sequence[:known] + [4] * (len(tokens) - 1 - known) + [2]
                assert len(tokens) == max(lengths[row], known + 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"bad_words_ids": [[0], [7], [9, 9]]},
        {"forced_eos_token_id": 2, "max_new_tokens": 6},
        {"forced_bos_token_id": 11},
        {"min_new_tokens": 8, "max_new_tokens": 12},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
        {"encoder_no_repeat_ngram_size": 1},
        {"eos_token_id": [2, 13, 17]},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
        {"suppress_tokens": [0], "decoder_start_token_id": 2},
    ],
    ids=str,
)
def test_what_shapes_greedy_decoding_holds(settings, monkeypatch):
    teacher, inputs = random_teacher(2), sources(8)
    expected = greedy(teacher, inputs, **settings)
    for rate in (0.0, 0.3):
        student = damaged_greedy(monkeypatch, teacher, inputs, rate, **settings)
        for length in (2, 25):
            output = greedy(teacher, inputs, custom_generate=Draft(student, length=length), **settings)
            assert output.tolist() == expected.tolist()


def test_a_forced_first_token_is_no_token_of_the_draft(monkeypatch):
    teacher, inputs = random_teacher(0), sources(6)
    settings = {"forced_bos_token_id": 11, "max_new_tokens": 30}
    targets = iter(greedy(teacher, inputs, **settings)[:, 2:].tolist())
    student = drafting(monkeypatch, lambda source: damaged(next(targets), random.Random(0), 0.0))
    output = greedy(
        teacher, inputs, custom_generate=Draft(student, length=40), return_dict_in_generate=True, **settings
    )
    assert output.teacher_calls.tolist() == [1] * 6


def test_tokens_that_are_given_stay(monkeypatch):
    teacher, inputs = random_teacher(0), sources(6)
    given = {"decoder_input_ids": torch.tensor([[0, 8, 9]] * 6)}
    student = damaged_greedy(monkeypatch, teacher, inputs, 0.2)
    expected = greedy(teacher, {**inputs, **given})
    assert greedy(teacher, {**inputs, **given}, custom_generate=Draft(student)).tolist() == expected.tolist()


@pytest.mark.parametrize("expert", [0, 2])
def test_an_expert_of_a_mixture_verifies(expert, monkeypatch):
    torch.manual_seed(0)
    config = MoEMarianConfig(vocab_size=VOCAB + 3, num_experts=3, init_std=0.7, **SPECIAL, **SIZES)
    teacher = MoEMarianMTModel(config).eval().double()
    inputs = sources(6)
    expected = greedy(teacher, inputs, expert=expert)
    assert expected.tolist() != greedy(teacher, inputs, expert=1).tolist()
    student = damaged_greedy(monkeypatch, teacher, inputs, 0.2, expert=expert)
    output = greedy(teacher, inputs, expert=expert, custom_generate=Draft(student), return_dict_in_generate=True)
    assert output.sequences.tolist() == expected.tolist()
    assert output.accepted_tokens.sum() > 6


def relaxed(teacher: PreTrainedModel, source: list[int], draft: list[int], beta: int, tau: float) -> tuple:
    """Relaxed acceptance of one sentence, a token and a pass over all of its prefix at a time: output, calls."""
    tokens, place, calls = [0], 0, 0
    while len(tokens) < 13 and 2 not in tokens[1:]:
        calls += 1
        while len(tokens) < 13:
            scores = teacher(torch.tensor([source]), decoder_input_ids=torch.tensor([tokens])).logits[0, -1].float()
            best = int(scores.argmax())
            if place < len(draft) and len(tokens) < 12:
                token = draft[place]
                is_near = scores[token] >= scores[best] - tau and (scores > scores[token]).sum() < beta
                if token == best or (beta > 1 and is_near):
                    tokens.append(token)
                    place += 1
                    if token == 2:
                        break
                    continue
            tokens.append(best)
            places = sorted((abs(other - place), other) for other in range(len(draft)) if draft[other] == best)
            place = 1 + (places[0][1] if places else place)
            break
    return tokens, calls


@pytest.mark.parametrize(("beta", "tau"), [(1, 1.0), (2, 100.0), (3, 1.0), (3, 0.2)])
@torch.no_grad()
def test_relaxed_acceptance_takes_what_is_nearly_as_good(beta, tau, monkeypatch):
    teacher, inputs = random_teacher(1), sources(8)
    chance = random.Random(2)
    drafts = {}
    for ids, mask, target in zip(*inputs.values(), greedy(teacher, inputs)[:, 1:].tolist(), strict=True):
        drafts[tuple(ids[mask.bool()].tolist())] = damaged(target, chance, 0.4)
    student = drafting(monkeypatch, lambda source: drafts[tuple(source)])
    draft = Draft(student, beta=beta, tau=tau)
    output = greedy(teacher, inputs, custom_generate=draft, return_dict_in_generate=True)
    expected = [relaxed(teacher, list(source), target, beta, tau) for source, target in drafts.items()]
    for row, (tokens, calls) in enumerate(expected):
        assert output.sequences[row].tolist() == tokens + [0] * (output.sequences.shape[1] - len(tokens))
        assert output.teacher_calls[row] == calls
    if tau >= 1:
        assert (output.sequences.tolist() == greedy(teacher, inputs).tolist()) == (beta == 1)


def test_text_of_a_trained_teacher_in_single_precision(copy_teacher, tiny_tokenizer, sentences, monkeypatch):
    student = new_student(vocab_size=len(tiny_tokenizer), max_position_embeddings=64)
    drafting(monkeypatch, lambda source: damaged(source, random.Random(len(source)), 0.2), student)
    lines = [*sentences, "", *UNSEEN]
    plain = translate(copy_teacher, tiny_tokenizer, lines, with_scores=True, max_new_tokens=20)
    for max_batch_tokens in (1, 30, 4096):
        options = {"with_scores": True, "max_new_tokens": 20, "max_batch_tokens": max_batch_tokens}
        drafted = translate(copy_teacher, tiny_tokenizer, lines, draft=Draft(student), **options)
        num_ties = 0
        for one, other in zip(plain, drafted, strict=True):
            if one.text != other.text:  # Else the same tokens have the same score.
                num_ties += 1
                assert one.score == pytest.approx(other.score, abs=1e-5)
            assert (other.teacher_calls is None) == (one.score is None)
        assert num_ties == 0, "this model has no ties"
        assert DraftCounts().add(drafted).means()["accepted_length_mean"] > 0.5
    stream = Translator(copy_teacher, tiny_tokenizer, draft=Draft(student), max_new_tokens=20).stream(lines, window=3)
    assert [line.text for line in stream] == [line.text for line in plain]


def test_a_source_longer_than_the_students_positions_is_cut_for_it(copy_teacher, tiny_tokenizer):
    student = new_student(CTCNATForConditionalGeneration, vocab_size=len(tiny_tokenizer), max_position_embeddings=16)
    lines = ["a dog runs " * 9, "hello"]
    plain = translate(copy_teacher, tiny_tokenizer, lines, max_new_tokens=50)
    drafted = translate(copy_teacher, tiny_tokenizer, lines, draft=Draft(student), max_new_tokens=50)
    assert [line.text for line in drafted] == [line.text for line in plain]


def test_counts_of_a_few_sentences():
    counted = [SimpleNamespace(teacher_calls=calls, accepted_tokens=n) for calls, n in ((2, 9), (4, 3), (None, None))]
    means = DraftCounts().add(counted).means()
    assert means == {"teacher_calls_mean": 3.0, "accepted_length_mean": 2.0}
    assert "3.00 calls of the teacher a sentence, 2.00 tokens" in DraftCounts.phrase(means)
    assert DraftCounts().add(counted[2:]).means() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "`num_beams` must be 1 with a draft, got 2"),
        ({"do_sample": True}, "`do_sample` must be False with a draft, got True"),
        ({"use_cache": False}, "`use_cache` must be True with a draft, got False"),
        ({"return_dict_in_generate": True, "output_scores": True}, "`output_scores` must be False with a draft"),
        ({"stopping_criteria": [MaxTimeCriteria(1.0)]}, "up to EOS or the longest output, got a MaxTimeCriteria"),
    ],
)
def test_what_is_not_greedy_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        greedy(random_teacher(0), sources(2), **options, custom_generate=Draft(new_student()))


def test_a_draft_that_does_not_fit_is_an_error(tiny_tokenizer, copy_teacher):
    with pytest.raises(ValueError, match="`draft` must be a NAT model, got a MarianMTModel"):
        Draft(random_teacher(0))
    with pytest.raises(ValueError, match="`model` must share the student's vocabulary"):
        greedy(random_teacher(0), sources(2), custom_generate=Draft(new_student(vocab_size=50)))
    with pytest.raises(ValueError, match="`model` must be autoregressive, got a VanillaNAT"):
        translate(new_student(), tiny_tokenizer, ["a"], draft=Draft(new_student()))
    for options in ({"length": 0}, {"beta": 0}, {"tau": -1.0}, {"tau": float("nan")}):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f"`{name}` must be .*>= ., got {value}"):
            Draft(new_student(), **options)


def test_a_command_drafts_and_says_how_far(copy_teacher, tiny_tokenizer, sentences, tmp_path: Path, caplog):
    for name, model in (
        ("teacher", copy.deepcopy(copy_teacher).double()),
        ("student", new_student(CMLMForConditionalGeneration, vocab_size=len(tiny_tokenizer))),
    ):
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in [*sentences, "", *UNSEEN]))
    argv = ["translate", f"--model={tmp_path / 'teacher'}", f"--input={tmp_path / 'in.txt'}"]
    draft = [f"--draft={tmp_path / 'student'}", "--max_iterations=2", "--draft_length=5"]
    assert main([*argv, f"--output={tmp_path / 'plain.txt'}"]) == 0
    with caplog.at_level(logging.INFO, logger="hf_nat"):
        assert main([*argv, *draft, f"--output={tmp_path / 'drafted.txt'}"]) == 0
    assert (tmp_path / "plain.txt").read_text() == (tmp_path / "drafted.txt").read_text()
    assert "calls of the teacher a sentence" in caplog.text
