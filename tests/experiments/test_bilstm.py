from __future__ import annotations

import pytest
import torch
from torch import Generator, nn

from hf_nat.experiments.bilstm import METRICS, BiLSTMTaggers, accuracies, train_taggers


NUM_OBSERVATIONS, NUM_LABELS, HIDDEN_SIZE = 5, 3, 4
SEEDS = (1, 2, 3)


def generators(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def taggers_of(*seeds: int) -> BiLSTMTaggers:
    return BiLSTMTaggers(NUM_OBSERVATIONS, NUM_LABELS, HIDDEN_SIZE, generators(*seeds))


def data(num_sequences: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of model g: the observation g steps before, modulo K, around a circle."""
    observations = torch.randint(NUM_OBSERVATIONS, (3, num_sequences, 6), generator=Generator().manual_seed(seed))
    labels = torch.stack([observations[g].roll(g, 1) % NUM_LABELS for g in range(3)])
    return observations, labels


def fit(taggers, models, num_epochs=3, seeds=SEEDS, **options):
    train, validation = ([part[models] for part in data(size, size)] for size in (70, 50))
    options = {"batch_size": 16, "learning_rate": 0.03, "generators": generators(*seeds), **options}
    return train_taggers(taggers, train, validation, num_epochs=num_epochs, **options)


def test_each_model_is_a_bilstm_of_torch() -> None:
    taggers, (observations, _) = taggers_of(*SEEDS), data(7, 0)
    for model in range(3):
        lstm = nn.LSTM(NUM_OBSERVATIONS, HIDDEN_SIZE, batch_first=True, bidirectional=True)
        linear = nn.Linear(2 * HIDDEN_SIZE, NUM_LABELS)
        with torch.no_grad():
            for direction, suffix in enumerate(("", "_reverse")):
                getattr(lstm, f"weight_ih_l0{suffix}").copy_(taggers.weight_ih[model, direction].T)
                getattr(lstm, f"weight_hh_l0{suffix}").copy_(taggers.weight_hh[model, direction].T)
                getattr(lstm, f"bias_ih_l0{suffix}").copy_(taggers.bias[model, direction, 0])
                getattr(lstm, f"bias_hh_l0{suffix}").zero_()
            linear.weight.copy_(taggers.classifier[model].T)
            linear.bias.copy_(taggers.classifier_bias[model, 0])
        inputs = nn.functional.one_hot(observations[model], NUM_OBSERVATIONS).float()
        torch.testing.assert_close(taggers(observations)[model], linear(lstm(inputs)[0]))


def test_initial_weights_lie_where_those_of_torch_do() -> None:
    taggers = BiLSTMTaggers(NUM_OBSERVATIONS, NUM_LABELS, 64, generators(1))
    bounds = {"classifier": 128**-0.5, "classifier_bias": 128**-0.5}
    for name, weights in taggers.named_parameters():
        bound = bounds.get(name, 64**-0.5)
        assert weights.abs().max() <= bound
        assert name == "classifier_bias" or (weights.min() < -0.9 * bound and weights.max() > 0.9 * bound)


def test_trained_together_is_trained_alone() -> None:
    together = taggers_of(*SEEDS)
    selected = fit(together, slice(None))
    for model, seed in enumerate(SEEDS):
        one = slice(model, model + 1)
        alone = taggers_of(seed)
        selected_alone = fit(alone, one, seeds=(seed,))
        for name, weights in alone.named_parameters():
            torch.testing.assert_close(together.get_parameter(name)[one], weights, rtol=1e-4, atol=1e-5)
        for metric in METRICS:
            assert torch.equal(selected[metric].epochs[one], selected_alone[metric].epochs)
            assert torch.equal(selected[metric].accuracy[one], selected_alone[metric].accuracy)


def test_a_model_learns_what_lies_before_and_behind() -> None:
    selected = fit(taggers_of(*SEEDS), slice(None), num_epochs=60)
    assert selected["token_accuracy"].accuracy.min() > 0.75  # the best label without the input is right in 0.4


def test_epoch_and_weights_are_those_of_the_best_validation_by_each_metric() -> None:
    """A run of n epochs ends where a longer one stood after n."""
    num_epochs, (observations, labels) = 6, data(50, 50)
    history = []
    for n in range(1, num_epochs + 1):
        taggers = taggers_of(*SEEDS)
        fit(taggers, slice(None), num_epochs=n, learning_rate=0.3)
        history.append((taggers.state_dict(), accuracies(taggers.predict(observations), labels)))
    called = []
    selected = fit(taggers_of(*SEEDS), slice(None), num_epochs, learning_rate=0.3, on_epoch=lambda: called.append(1))
    assert len(called) == num_epochs
    assert not torch.equal(*(selected[metric].epochs for metric in METRICS))
    for metric in METRICS:
        for model in range(3):
            scores = [float(found[metric][model]) for _, found in history]
            best = scores.index(max(scores))
            assert selected[metric].epochs[model] == best + 1
            for name, weights in selected[metric].weights.items():
                assert torch.equal(weights[model], history[best][0][name][model])


def test_accuracies_by_hand() -> None:
    labels = torch.tensor([[[0, 1], [1, 1]], [[2, 2], [0, 0]]])
    predictions = torch.tensor([[[0, 1], [1, 0]], [[2, 2], [0, 0]]])
    found = accuracies(predictions, labels)
    assert found["token_accuracy"].tolist() == [0.75, 1]
    assert found["sequence_accuracy"].tolist() == [0.5, 1]


def test_prediction_in_batches_is_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    taggers, (observations, _) = taggers_of(*SEEDS), data(11, 0)
    whole = taggers.predict(observations)
    monkeypatch.setattr("hf_nat.experiments.bilstm._PREDICTION_BATCH", 4)
    assert torch.equal(taggers.predict(observations), whole)
    assert whole.shape == (3, 11, 6)
