from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from nat_model_tester import BOS, EOS, MASK, PAD, SOURCES, VOCAB_SIZE, pad_rows, tiny_batch, tiny_model
from torch.testing import assert_close

from hf_nat.models import (
    InsertionState,
    InsertionTransformerConfig,
    NATPreTrainedModel,
    modeling_insertion_transformer,
)


SPECIAL = [PAD, BOS, MASK]


@pytest.fixture
def model() -> NATPreTrainedModel:
    return tiny_model("insertion_transformer")


# Loss


def keep(monkeypatch: pytest.MonkeyPatch, content: list[list[int]]) -> None:
    """Makes the roll-in keep the content marked with 1."""

    def kept(eligible: torch.Tensor, _noise: object) -> torch.Tensor:
        return pad_rows(content, 0, eligible.shape[1]).bool()

    monkeypatch.setattr(modeling_insertion_transformer, "random_keep", kept)


def slot_targets(words: list[int], kept: tuple[int, ...], temperature: float) -> list[dict[int, float]]:
    """The target distribution of every slot, from its missing words."""
    spans: list[list[int]] = [[]]
    for word, is_kept in zip(words, kept, strict=True):
        if is_kept:
            spans.append([])
        else:
            spans[-1].append(word)
    targets = []
    for span in spans:
        weights = [math.exp(-abs(i - (len(span) - 1) / 2) / temperature) for i in range(len(span))]
        target: Counter[int] = Counter() if span else Counter({EOS: 1.0})
        for word, weight in zip(span, weights, strict=True):
            target[word] += weight / sum(weights)
        targets.append(target)
    return targets


def sentence_loss(logits: torch.Tensor, targets: list[dict[int, float]], smoothing: float) -> float:
    losses = []
    for log_probs, target in zip(logits.log_softmax(dim=1).tolist(), targets, strict=True):
        soft = [
            (1 - smoothing) * target.get(token, 0.0) + smoothing / len(log_probs) for token in range(len(log_probs))
        ]
        losses.append(-sum(p * log_p for p, log_p in zip(soft, log_probs, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [None, 0.5, 1e-3])
def test_loss_is_that_of_all_missing_words_for_every_subset(
    temperature: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("insertion_transformer", span_temperature=temperature)
    words, other = [7, 7, 8, 9], [10, 11]
    sources = pad_rows([[5, 6, EOS], [12, EOS]], PAD)
    labels = pad_rows([[*words, EOS], [*other, EOS]], -100)
    for kept in itertools.product((0, 1), repeat=len(words)):
        other_kept = kept[1:3]
        keep(monkeypatch, [list(kept), list(other_kept)])
        losses = []
        for row, (target, mask) in enumerate([(words, kept), (other, other_kept)]):
            canvas = torch.tensor([[*itertools.compress(target, mask), EOS]])
            source = sources[row : row + 1, : int(sources[row].ne(PAD).sum())]
            logits = model(source, decoder_input_ids=canvas).logits[0]
            losses.append(sentence_loss(logits, slot_targets(target, mask, temperature or math.inf), 0.1))
        expected = torch.tensor((5 * losses[0] + 3 * losses[1]) / 8)
        for training in (False, True):
            assert_close(model.train(training)(sources, labels=labels).loss, expected, rtol=1e-4, atol=1e-5)


def test_a_word_that_stands_twice_in_a_span_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("insertion_transformer", label_smoothing=0.0)
    keep(monkeypatch, [[0, 0, 0]])
    source = torch.tensor([[5, EOS]])
    log_probs = model(source, decoder_input_ids=torch.tensor([[EOS]])).logits[0, 0].log_softmax(dim=0)
    loss = model(source, labels=torch.tensor([[7, 7, 8, EOS]])).loss
    assert_close(loss, -(2 * log_probs[7] + log_probs[8]) / 3)


def test_number_of_kept_tokens_is_uniform_from_none_to_all(model: NATPreTrainedModel) -> None:
    canvases: list[torch.Tensor] = []
    model.get_decoder().register_forward_pre_hook(
        lambda _module, _args, kwargs: canvases.append(kwargs["input_ids"]), with_kwargs=True
    )
    n, num_rows = 5, 6000
    labels = torch.tensor([[*range(5, 5 + n), EOS]]).expand(num_rows, -1)
    model.train()(torch.tensor([[5, EOS]]).expand(num_rows, -1), labels=labels)
    (canvas,) = canvases
    assert (canvas[:, 0] == BOS).all()
    num_kept = canvas.ne(PAD).sum(dim=1) - 2
    observed = torch.bincount(num_kept, minlength=n + 1).float()
    assert len(observed) == n + 1
    # Critical values for p = 0.001 with 5 degrees of freedom.
    assert ((observed - num_rows / 6) ** 2 / (num_rows / 6)).sum() < 20.5
    kept = torch.stack([(canvas == word).sum() for word in range(5, 5 + n)])
    assert ((kept - num_rows / 2) ** 2 / (num_rows / 4)).sum() < 20.5


def test_training_projects_the_slots_alone_with_the_same_loss(model: NATPreTrainedModel) -> None:
    widths: list[torch.Size] = []
    model.slot_projection.register_forward_hook(lambda _module, _inputs, output: widths.append(output.shape))
    losses = []
    for training in (True, False):
        output = model.train(training)(**tiny_batch(), generator=torch.Generator().manual_seed(1))
        losses.append(output.loss)
        assert (output.logits is None) == training
    assert_close(*losses)
    assert len(widths[0]) == 2 and 4 <= widths[0][0] < 4 * 7
    assert output.logits.shape == (4, 7, VOCAB_SIZE)


def test_labels_and_canvas_together_are_an_error(model: NATPreTrainedModel) -> None:
    with pytest.raises(ValueError, match="Only one of `labels` and `decoder_input_ids` must be given, got both"):
        model(**tiny_batch(), decoder_input_ids=torch.tensor([[EOS]]))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"bos_token_id": PAD}, ValueError, "`bos_token_id` must not be the padding, got 0"),
        ({"bos_token_id": None}, StrictDataclassFieldValidationError, "'bos_token_id' expected int, got NoneType"),
        ({"span_temperature": 0}, ValueError, "`span_temperature` must be > 0, got 0. Use None"),
    ],
)
def test_bad_configuration_is_an_error(fields: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InsertionTransformerConfig(**fields)


# Decoding


@pytest.fixture
def ending_model(model: NATPreTrainedModel) -> NATPreTrainedModel:
    """A model that often has nothing to insert."""
    bonus = torch.zeros(VOCAB_SIZE).index_fill(0, torch.tensor([EOS]), 3.0)
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: output + bonus)
    return model


@torch.no_grad()
def insert_in_parallel(
    model: NATPreTrainedModel, source: list[int], rounds: int, cap: int, eos_penalty: float
) -> tuple[list[int], list[float], int]:
    """Parallel decoding of one sentence as the paper tells it, without vectors."""
    tokens, scores = [EOS], [0.0]
    for t in range(rounds):
        logits = model(torch.tensor([source]), decoder_input_ids=torch.tensor([tokens])).logits[0]
        logits[:, SPECIAL] = float("-inf")
        log_probs = logits.log_softmax(dim=1)
        log_probs[:, EOS] -= eos_penalty if t or source == [EOS] else float("inf")
        best = [(float(row.max()), int(row.argmax())) for row in log_probs]
        wanted = sorted((i for i, (_, token) in enumerate(best) if token != EOS), key=lambda i: -best[i][0])
        granted = set(wanted[: cap - len(tokens)])
        if not granted:
            return tokens, scores, t + 1
        pairs = list(zip(tokens, scores, strict=True))
        for i in sorted(granted, reverse=True):
            pairs.insert(i, (best[i][1], best[i][0]))
        tokens, scores = [token for token, _ in pairs], [score for _, score in pairs]
        if len(tokens) == cap:
            return tokens, scores, t + 1
    return tokens, scores, rounds


@pytest.mark.parametrize("eos_penalty", [0.0, 0.7])
@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_generate_is_parallel_insertion(ending_model: NATPreTrainedModel, rounds: int, eos_penalty: float) -> None:
    settings = {"max_iterations": rounds, "eos_penalty": eos_penalty, "max_length_ratio": 2.5}
    output = ending_model.generate(tiny_batch()["input_ids"], return_dict_in_generate=True, **settings)
    for row, source in enumerate(SOURCES):
        cap = max(10, int(2.5 * len(source)))
        tokens, scores, executed = insert_in_parallel(ending_model, source, rounds, cap, eos_penalty)
        length = int(output.sequences[row].ne(PAD).sum())
        assert output.sequences[row, :length].tolist() == tokens
        assert_close(output.token_scores[row, :length], torch.tensor(scores), rtol=1e-4, atol=1e-5)
        assert output.iterations[row] == executed


@pytest.mark.parametrize("eos_penalty", [0.0, 100.0])
def test_a_round_at_most_doubles_the_number_of_slots(ending_model: NATPreTrainedModel, eos_penalty: float) -> None:
    lengths = []
    for rounds in range(1, 7):
        settings = {"max_iterations": rounds, "eos_penalty": eos_penalty, "max_length_ratio": 100.0}
        sequences = ending_model.generate(tiny_batch()["input_ids"], **settings)
        lengths.append(sequences.ne(PAD).sum(dim=1) - 1)
    bounds = torch.tensor([2**rounds - 1 for rounds in range(1, 7)]).unsqueeze(1)
    bounds = bounds.clamp(max=30)  # of 32 positions one each is taken by BOS and EOS
    assert (torch.stack(lengths) <= bounds).all()
    assert (torch.stack(lengths) == bounds).all() == (eos_penalty == 100.0)


def state_of(model: NATPreTrainedModel, tokens: torch.Tensor, iteration: int = 1, **fields) -> InsertionState:
    num_rows = len(tokens)
    input_ids = torch.tensor([[5, EOS]]).expand(num_rows, -1)
    values = {
        "scores": torch.zeros(tokens.shape),
        "candidate": torch.zeros(num_rows, dtype=torch.long),
        "length_caps": torch.full((num_rows,), model.config.max_position_embeddings - 1),
        "finished": torch.zeros(num_rows, dtype=torch.bool),
        **fields,
    }
    states = torch.randn(num_rows, 2, model.config.d_model, dtype=model.dtype)
    ones = torch.ones_like(input_ids)
    return InsertionState(
        input_ids, ones, (model,), (states,), tokens=tokens, max_iterations=10, iteration=iteration, **values
    )


def choose(model: NATPreTrainedModel, choices: list[list[tuple[int, float]]]) -> None:
    """Makes the model give a token and its log-probability for each slot of each row; the rest has no chance."""
    flat = [choice for row in choices for choice in row]
    logits = torch.full((len(flat), model.config.vocab_size), float("-inf"))
    for slot, (token, log_prob) in enumerate(flat):
        logits[slot, token] = log_prob
        logits[slot, -1] = math.log1p(-math.exp(log_prob))  # the remaining probability
    model.slot_logits = lambda *_: logits


def test_length_cap_keeps_the_most_probable_insertions(model: NATPreTrainedModel) -> None:
    tokens = pad_rows([[5, 6, 7, EOS], [5, EOS], [5, 6, EOS]], PAD)
    choose(
        model,
        [[(8, -0.4), (9, -0.2), (EOS, -0.01), (10, -0.3)], [(8, -0.3), (9, -0.2)], [(8, -0.1), (9, -0.1), (10, -0.1)]],
    )
    state = model.refine(state_of(model, tokens, length_caps=torch.tensor([6, 2, 5])))
    assert state.tokens.tolist() == [[5, 9, 6, 7, 10, EOS], [5, EOS, PAD, PAD, PAD, PAD], [8, 5, 9, 6, EOS, PAD]]
    assert_close(state.scores[0], torch.tensor([0.0, -0.2, 0.0, 0.0, -0.3, 0.0]))
    assert state.finished.all()


def test_finished_when_nothing_is_inserted(model: NATPreTrainedModel) -> None:
    tokens = pad_rows([[5, 6, EOS], [5, EOS]], PAD)
    choose(model, [[(EOS, -0.1)] * 3, [(EOS, -0.1), (8, -0.1)]])
    state = model.refine(state_of(model, tokens))
    assert state.finished.tolist() == [True, False]
    assert state.tokens.tolist() == [[5, 6, EOS], [5, 8, EOS]]


def test_eos_penalty_only_adds_insertions(ending_model: NATPreTrainedModel) -> None:
    tokens = torch.randint(5, VOCAB_SIZE, (40, 12)).index_fill(1, torch.tensor([11]), EOS)
    before = state_of(ending_model, tokens)
    inserted = []
    for eos_penalty in (0.0, 0.5, 2.0, 100.0):
        state = ending_model.refine(dataclasses.replace(before, eos_penalty=eos_penalty))
        # New tokens alone have a score.
        rows = zip(state.tokens, state.scores, strict=True)
        assert all(
            row[(scores == 0) & (row != PAD)].tolist() == old
            for (row, scores), old in zip(rows, tokens.tolist(), strict=True)
        )
        inserted.append(state.scores.ne(0).sum(dim=1))
    for fewer, more in itertools.pairwise(inserted):
        assert (fewer <= more).all() and fewer.sum() < more.sum()
    assert (inserted[-1] == 12).all()


def test_eos_penalty_leaves_the_score_of_a_token(model: NATPreTrainedModel) -> None:
    choose(model, [[(8, -0.5)]])
    state = model.refine(state_of(model, torch.tensor([[EOS]]), eos_penalty=3.0))
    assert_close(state.scores, torch.tensor([[-0.5, 0.0]]))


def test_special_tokens_are_never_inserted(model: NATPreTrainedModel) -> None:
    for token in SPECIAL:
        choose(model, [[(token, -0.01)]])
        assert model.refine(state_of(model, torch.tensor([[EOS]]))).tokens.tolist() == [[VOCAB_SIZE - 1, EOS]]


def test_long_canvases_keep_their_order_in_bfloat16() -> None:
    model = tiny_model("insertion_transformer", vocab_size=640, max_position_embeddings=700).bfloat16()
    words = list(range(10, 310))
    choose(model, [[(word + 300, -0.1) for word in words] + [(EOS, -0.1)]])
    state = model.refine(state_of(model, torch.tensor([[*words, EOS]])))
    assert state.tokens[0].tolist() == [token for word in words for token in (word + 300, word)] + [EOS]


def test_only_an_empty_source_may_have_an_empty_translation(model: NATPreTrainedModel) -> None:
    def logits(_state: InsertionState, _states: torch.Tensor, is_slot: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros(int(is_slot.sum()), VOCAB_SIZE)
        scores[:, EOS], scores[:, 7] = 9.0, 1.0
        return scores

    model.slot_logits = logits
    sequences = model.generate(torch.tensor([[5, EOS], [EOS, PAD]]))
    assert sequences.tolist() == [[7, EOS], [EOS, PAD]]


def test_candidates_start_with_the_best_words(model: NATPreTrainedModel) -> None:
    batch = tiny_batch([0, 3])
    settings = model._resolve_settings(None, {"num_candidates": 3})
    encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    state = model.init_state(batch["input_ids"], batch["attention_mask"], (model,), (encoded,), settings)
    logits = model(batch["input_ids"], decoder_input_ids=torch.tensor([[EOS], [EOS]])).logits[:, 0]
    expected = logits.index_fill(1, torch.tensor([*SPECIAL, EOS]), float("-inf")).topk(3, dim=1).indices
    assert torch.equal(model.refine(state).tokens, torch.stack([expected.flatten(), torch.full((6,), EOS)], dim=1))


def test_more_candidates_find_more_probable_translations(model: NATPreTrainedModel) -> None:
    input_ids = torch.randint(5, VOCAB_SIZE, (16, 6)).index_fill(1, torch.tensor([5]), EOS)
    greedy, best = (
        model.generate(input_ids, num_candidates=k, return_dict_in_generate=True).sequences_scores for k in (1, 5)
    )
    assert (best >= greedy - 1e-5).all() and (best > greedy + 1e-3).any()


def test_more_candidates_than_words_are_an_error(model: NATPreTrainedModel) -> None:
    num_words = VOCAB_SIZE - 4
    input_ids = tiny_batch()["input_ids"]
    assert model.generate(input_ids, num_candidates=num_words).shape[0] == 4
    with pytest.raises(ValueError, match=f"`num_candidates` must be at most {num_words} words, got {num_words + 1}"):
        model.generate(input_ids, num_candidates=num_words + 1)
