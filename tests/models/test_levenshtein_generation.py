from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nat_model_tester import BOS, EOS, MASK, PAD, SOURCES, UNK, VOCAB_SIZE, assert_translations, pad_rows, tiny_model
from torch.testing import assert_close

from hf_nat.models import InsertionState, NATPreTrainedModel


SPECIAL = [PAD, BOS, EOS, MASK]


def levt(**fields: Any) -> NATPreTrainedModel:
    return tiny_model("levenshtein_transformer", num_placeholder_bins=6, **fields)


@pytest.fixture
def model() -> NATPreTrainedModel:
    return levt()


@torch.no_grad()
def decode(
    model: NATPreTrainedModel, source: list[int], rounds: int, cap: int, eos_penalty: float
) -> tuple[list[int], list[float], list[list[int]]]:
    """The three steps of every round on one sentence, without vectors: tokens, scores and all canvases."""
    tokens, scores, history = [EOS], [0.0], [[EOS]]

    def score(canvas: list[int]) -> Any:
        return model(torch.tensor([source]), decoder_input_ids=torch.tensor([canvas]))

    for iteration in range(rounds):
        before = tokens
        if len(tokens) > 1:
            delete = score(tokens).deletion_logits[0].argmax(dim=1).tolist()
            stays = [i for i in range(len(tokens)) if i == len(tokens) - 1 or not delete[i]]
            tokens, scores = [tokens[i] for i in stays], [scores[i] for i in stays]
        history.append(tokens)
        if len(tokens) < cap:
            log_probs = score(tokens).placeholder_logits[0].log_softmax(dim=1)
            log_probs[:, 0] -= eos_penalty
            if iteration == 0 and len(source) > 1:
                log_probs[:, 0] = float("-inf")
            counts, left = log_probs.argmax(dim=1).tolist(), cap - len(tokens)
            for slot in sorted(range(len(tokens)), key=lambda i: -float(log_probs[i].max())):
                counts[slot] = min(counts[slot], left)
                left -= counts[slot]
            tokens = sum(([MASK] * count + [token] for token, count in zip(tokens, counts, strict=True)), [])
            scores = sum(([0.0] * count + [value] for value, count in zip(scores, counts, strict=True)), [])
        history.append(tokens)
        if MASK in tokens:
            logits = score(tokens).logits[0]
            logits[:, SPECIAL] = float("-inf")
            best, words = logits.log_softmax(dim=1).max(dim=1)
            masked = [token == MASK for token in tokens]
            tokens = [int(words[i]) if is_masked else tokens[i] for i, is_masked in enumerate(masked)]
            scores = [float(best[i]) if is_masked else scores[i] for i, is_masked in enumerate(masked)]
        history.append(tokens)
        if tokens == before:
            break
    return tokens, scores, history


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("eos_penalty", [0.0, 2.0])
def test_generate_deletes_inserts_and_writes(seed: int, eos_penalty: float) -> None:
    model = levt(seed=seed, decoder_layers=2)
    output = model.generate(
        pad_rows(SOURCES, PAD),
        max_iterations=6,
        eos_penalty=eos_penalty,
        return_dict_in_generate=True,
        return_history=True,
    )
    for row, source in enumerate(SOURCES):
        tokens, scores, history = decode(model, source, 6, max(10, 2 * len(source)), eos_penalty)
        assert output.sequences[row, : len(tokens)].tolist() == tokens
        assert output.sequences[row, len(tokens) :].eq(PAD).all()
        assert_close(output.token_scores[row, : len(tokens)], torch.tensor(scores), rtol=1e-4, atol=1e-5)
        assert [canvas.tolist() for canvas in output.history[row]] == history
        assert output.iterations[row] == len(history) // 3


Script = Callable[[InsertionState], torch.Tensor]


def play(
    model: NATPreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
    counts: Script,
    words: Script = lambda state: torch.full_like(state.tokens, 7),
    deletions: Script = lambda state: torch.zeros_like(state.tokens),
) -> list[tuple[str, int]]:
    """Lets scripts decide what the heads say, `[R, T]` each; returns the calls with their numbers of rows."""
    calls: list[tuple[str, int]] = []

    def head_logits(state: InsertionState, _encoder_hidden_states: torch.Tensor, head: str) -> torch.Tensor:
        calls.append((head, len(state.tokens)))
        script, size = {
            "deletion": (deletions, 2),
            "placeholder": (counts, 300),
            "word": (words, VOCAB_SIZE),
        }[head]
        choices = script(state)
        if head == "word":
            choices = choices[state.tokens == MASK]
        return 20.0 * torch.nn.functional.one_hot(choices, size)

    monkeypatch.setattr(model, "head_logits", head_logits)
    return calls


def first_slot(count: int, only_if_empty: bool = True) -> Script:
    """Asks for `count` placeholders in the first slot of a row."""

    def counts(state: InsertionState) -> torch.Tensor:
        result = torch.zeros_like(state.tokens)
        result[:, 0] = count
        return result * (state.tokens[:, :1] == EOS) if only_if_empty else result

    return counts


@pytest.mark.parametrize(("arguments", "caps"), [({}, [14, 10, 10, 10]), ({"max_length_ratio": 3}, [21, 10, 10, 15])])
def test_cap_holds_for_the_whole_row_and_is_that_of_its_own_source(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], caps: list[int]
) -> None:
    # Four in every slot: each slot alone would stay within the cap.
    play(model, monkeypatch, counts=lambda state: torch.full_like(state.tokens, 4))
    sequences = model.generate(pad_rows(SOURCES, PAD), **arguments)
    assert sequences.ne(PAD).sum(dim=1).tolist() == caps
    for source, cap in zip(SOURCES, caps, strict=True):
        assert model.generate(torch.tensor([source]), **arguments).shape == (1, cap)


def test_surest_slots_are_filled_where_the_cap_cuts(model: NATPreTrainedModel) -> None:
    state = start(model, [[5, 6, EOS]], [[10, 11, 12, EOS]], length_caps=torch.tensor([7]))
    logits = torch.zeros(1, 4, 6)
    logits[0, [0, 1, 2, 3], [2, 1, 0, 2]] = torch.tensor([1.0, 2.0, 9.0, 3.0])
    model.head_logits = lambda *_: logits
    inserted = model._insert(state)
    tokens, scores = inserted.tokens, inserted.scores
    assert tokens.tolist() == [[10, MASK, 11, 12, MASK, MASK, EOS]]
    assert scores.tolist() == [[-1.0, 0.0, -2.0, -3.0, 0.0, 0.0, 0.0]]


def start(model: NATPreTrainedModel, sources: list[list[int]], canvases: list[list[int]], **fields: Any) -> Any:
    """A state after the first round; token t has the score -1 - t."""
    input_ids, tokens = pad_rows(sources, PAD), pad_rows(canvases, PAD)
    content = tokens.ne(PAD) & tokens.ne(EOS)
    attention_mask = input_ids.ne(PAD).long()
    settings = model._resolve_settings(None, {})
    encoded = model.get_encoder()(input_ids, attention_mask).last_hidden_state.detach()
    state = model.init_state(input_ids, attention_mask, (model,), (encoded,), settings)
    scores = (-1.0 - torch.arange(tokens.shape[1])) * content
    return dataclasses.replace(state, **{"tokens": tokens, "scores": scores, "iteration": 1, **fields})


def test_scores_stay_with_tokens_that_stay(model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    play(
        model,
        monkeypatch,
        deletions=lambda state: state.tokens.eq(11).long(),
        counts=lambda state: state.tokens.eq(12).long() * 2,
    )
    state = start(model, [[5, 6, EOS], [5, EOS]], [[10, 11, 12, EOS], [11, 11, EOS]])
    after = model.refine(state)
    assert [canvas.tolist() for canvas in after.intermediate] == [
        [[10, 12, EOS, PAD], [EOS, PAD, PAD, PAD]],
        [[10, MASK, MASK, 12, EOS], [EOS, PAD, PAD, PAD, PAD]],
    ]
    assert after.tokens.tolist() == [[10, 7, 7, 12, EOS], [EOS, PAD, PAD, PAD, PAD]]
    written = -math.log1p((VOCAB_SIZE - len(SPECIAL) - 1) * math.exp(-20))
    assert_close(after.scores, torch.tensor([[-1.0, written, written, -3.0, 0.0], [0.0] * 5]))
    assert after.finished.tolist() == [False, False]


def test_steps_decode_only_the_rows_that_they_can_change(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = play(model, monkeypatch, counts=lambda state: state.tokens.eq(12).long())
    state = start(model, [[5, 6, EOS]] * 4, [[10, 11, EOS], [12, EOS], [EOS], [12, 13, EOS]])
    state = dataclasses.replace(state, length_caps=torch.tensor([3, 5, 5, 5]))
    after = model.refine(state)
    # No content in the third row, no room in the first, masks in the second and fourth.
    assert calls == [("deletion", 3), ("placeholder", 3), ("word", 2)]
    assert after.finished.tolist() == [True, False, True, False]
    calls.clear()
    model.refine(start(model, [[5, EOS]], [[EOS]], length_caps=torch.tensor([1])))
    assert calls == []


@pytest.mark.parametrize("seed", range(3))
def test_steps_on_some_rows_give_what_steps_on_all_rows_give(seed: int) -> None:
    model = levt(seed=seed)
    canvases = [[10, 11, 12, 13, EOS], [EOS], [14, EOS], [7, 7, 7, EOS]]
    state = start(model, SOURCES, canvases, length_caps=torch.tensor([5, 9, 9, 4]))
    together = model.refine(state)
    for row in range(len(canvases)):
        alone = model.refine(state.select(torch.tensor([row])))
        for name in ("tokens", "scores"):
            values, width = getattr(together, name)[row], getattr(alone, name).shape[1]
            assert_close(getattr(alone, name)[0], values[:width])
            assert values[width:].eq(0).all()
        assert alone.finished[0] == together.finished[row]


def test_oscillation_ends_with_the_last_round(model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    play(
        model,
        monkeypatch,
        deletions=lambda state: torch.ones_like(state.tokens),
        counts=first_slot(2),
        words=lambda state: torch.full_like(state.tokens, 8 + state.iteration % 2),
    )
    for rounds, word in ((6, 9), (7, 8)):
        output = model.generate(torch.tensor([[5, 6, EOS]]), max_iterations=rounds, return_dict_in_generate=True)
        assert output.sequences.tolist() == [[word, word, EOS]]
        assert output.iterations.tolist() == [rounds]


def test_unknown_words_are_words_and_are_written_once(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = play(model, monkeypatch, counts=first_slot(3), words=lambda state: torch.full_like(state.tokens, UNK))
    output = model.generate(torch.tensor([[5, 6, EOS]]), return_dict_in_generate=True)
    assert output.sequences.tolist() == [[UNK, UNK, UNK, EOS]]
    assert [head for head, _ in calls] == ["placeholder", "word", "deletion", "placeholder"]
    assert output.iterations.tolist() == [2]


def test_eos_and_specials_are_never_deleted_or_written(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        model,
        monkeypatch,
        deletions=lambda state: torch.ones_like(state.tokens),
        counts=first_slot(250, only_if_empty=False),
        words=lambda state: torch.full_like(state.tokens, EOS),
    )
    assert_translations(model.generate(pad_rows(SOURCES, PAD)))


def test_eos_penalty_works_against_inserting_nothing(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Logits 20 for nothing, 0 for everything else: of these the first is one placeholder.
    play(model, monkeypatch, counts=lambda state: torch.zeros_like(state.tokens))
    for eos_penalty, length in ((0.0, 2), (19.9, 2), (20.1, 10)):
        sequences = model.generate(torch.tensor([[5, 6, EOS]]), eos_penalty=eos_penalty, max_iterations=9)
        assert sequences.ne(PAD).sum() == length


def test_candidates_begin_with_the_best_numbers_of_placeholders(model: NATPreTrainedModel) -> None:
    input_ids = pad_rows(SOURCES, PAD)
    attention_mask = input_ids.ne(PAD).long()
    settings = model._resolve_settings(None, {"num_candidates": 3})
    encoded = model.get_encoder()(input_ids, attention_mask).last_hidden_state
    state = model.init_state(input_ids, attention_mask, (model,), (encoded,), settings)
    masks = model.refine(state).intermediate[1].eq(MASK).sum(dim=1).view(-1, 3)
    logits = model(input_ids, decoder_input_ids=torch.full((4, 1), EOS)).placeholder_logits[:, 0]
    logits[[0, 1, 3], 0] = float("-inf")  # the third source is empty
    assert torch.equal(masks, logits.argsort(dim=1, descending=True)[:, :3])
    best = model.generate(input_ids, num_candidates=3, return_dict_in_generate=True).sequences_scores
    rounding = 1e-6  # of batches of other sizes
    assert (best + rounding >= model.generate(input_ids, return_dict_in_generate=True).sequences_scores).all()


def test_candidate_that_begins_with_nothing_goes_on(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two placeholders are best, none is second best; the second round takes the best.
    calls = play(model, monkeypatch, counts=first_slot(2))
    output = model.generate(torch.tensor([[EOS]]), num_candidates=2, max_iterations=2, return_dict_in_generate=True)
    assert output.sequences.tolist() == [[7, 7, EOS]]
    assert calls == [("placeholder", 2), ("word", 1), ("deletion", 1), ("placeholder", 2), ("word", 1)]


def test_more_candidates_than_numbers_of_placeholders_is_an_error(model: NATPreTrainedModel) -> None:
    with pytest.raises(ValueError, match="`num_candidates` must be at most `num_placeholder_bins` - 1 = 5, got 6"):
        model.generate(torch.tensor([[5, 6, EOS]]), num_candidates=6)
