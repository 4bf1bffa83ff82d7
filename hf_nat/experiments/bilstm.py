"""Bi-LSTM taggers with independent outputs, many trained at once: every parameter has a leading axis of models.

Letters of the shapes: G models, N sequences, B sequences of a batch, T time steps, H hidden units of a direction,
K labels, V observations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


__all__ = ["METRICS", "BiLSTMTaggers", "Selection", "accuracies", "train_taggers"]

METRICS = ("token_accuracy", "sequence_accuracy")
_PREDICTION_BATCH = 250


class BiLSTMTaggers(nn.Module):
    """G taggers that know nothing of each other: one-hot inputs, a Bi-LSTM, and a softmax for each step on its own.

    Args:
        num_observations (`int`): V.
        num_labels (`int`): K.
        hidden_size (`int`): H.
        generators (`Sequence[Generator]`): one for each model; its initial weights are those of `nn.LSTM` and
            `nn.Linear` in distribution.
    """

    def __init__(
        self, num_observations: int, num_labels: int, hidden_size: int, generators: Sequence[Generator]
    ) -> None:
        super().__init__()

        def uniform(fan: int, *shape: int) -> nn.Parameter:
            drawn = torch.stack([torch.rand(shape, generator=generator) for generator in generators])
            return nn.Parameter((2 * drawn - 1) / fan**0.5)

        # Axis 1 of the first three: forward in time, backward in time. Gates in the order of nn.LSTM.
        self.weight_ih = uniform(hidden_size, 2, num_observations, 4 * hidden_size)
        self.weight_hh = uniform(hidden_size, 2, hidden_size, 4 * hidden_size)
        self.bias = uniform(hidden_size, 2, 1, 4 * hidden_size)
        self.classifier = uniform(2 * hidden_size, 2 * hidden_size, num_labels)
        self.classifier_bias = uniform(2 * hidden_size, 1, num_labels)

    def forward(self, observations: Tensor) -> Tensor:
        """Returns the logits `[G, B, T, K]` of observations `[G, B, T]`."""
        num_models, batch_size, length = observations.shape
        one_hot = F.one_hot(observations, self.weight_ih.shape[2]).to(self.weight_ih.dtype)
        inputs = torch.stack([one_hot, one_hot.flip(2)], 1).flatten(2, 3)
        gates = (inputs @ self.weight_ih + self.bias).unflatten(2, (batch_size, length))
        hidden = cell = gates.new_zeros(num_models, 2, batch_size, self.weight_hh.shape[2])
        states = []
        for inputs_at_t in gates.unbind(3):
            i, f, g, o = (inputs_at_t + hidden @ self.weight_hh).chunk(4, dim=-1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            states.append(hidden)
        ahead, back = torch.stack(states, 3).unbind(1)
        both = torch.cat([ahead, back.flip(2)], -1).flatten(1, 2)
        return (both @ self.classifier + self.classifier_bias).unflatten(1, (batch_size, length))

    @torch.no_grad()
    def predict(self, observations: Tensor) -> Tensor:
        """Returns the most probable label of each step, `[G, N, T]`."""
        return torch.cat([self(batch).argmax(-1) for batch in observations.split(_PREDICTION_BATCH, dim=1)], 1)


def accuracies(predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Scores labels `[G, N, T]`: by metric, the share of right labels and of sequences without a wrong one, `[G]`."""
    hits = predictions == labels
    return {
        "token_accuracy": hits.double().mean((1, 2)),
        "sequence_accuracy": hits.all(2).double().mean(1),
    }


@dataclass(frozen=True)
class Selection:
    """The epoch at which each model was best on validation, the first of several.

    Args:
        accuracy (`Tensor` of shape `[G]`): by the metric of the selection, on validation.
        epochs (`Tensor` of shape `[G]`): from 1.
        weights (`dict[str, Tensor]`): state dict of `BiLSTMTaggers` whose model g is that of its own best epoch.
    """

    accuracy: Tensor
    epochs: Tensor
    weights: dict[str, Tensor]


def train_taggers(
    taggers: BiLSTMTaggers,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    num_epochs: int,
    batch_size: int,
    learning_rate: float,
    generators: Sequence[Generator],
    on_epoch: Callable[[], object] = lambda: None,
) -> dict[str, Selection]:
    """Trains all taggers with one Adam, which keeps them independent, and selects an epoch of each for each metric.

    Args:
        taggers (`BiLSTMTaggers`): G models; they end with the weights of the last epoch.
        train (`tuple[Tensor, Tensor]`): observations and labels, each `[G, N, T]`.
        validation (`tuple[Tensor, Tensor]`): the same, for the selection.
        num_epochs (`int`): passes over the data.
        batch_size (`int`): B.
        learning_rate (`float`): of Adam, constant.
        generators (`Sequence[Generator]`): one for each model, for the order of its data.
        on_epoch (`Callable`, *optional*): called after each epoch.

    Returns:
        `dict[str, Selection]`: by metric.
    """
    observations, labels = train
    num_models, num_sequences, _ = labels.shape
    models = torch.arange(num_models)[:, None]
    optimizer = torch.optim.Adam(taggers.parameters(), lr=learning_rate)
    selected: dict[str, Selection] = {}
    for epoch in range(1, num_epochs + 1):
        order = torch.stack([torch.randperm(num_sequences, generator=generator) for generator in generators])
        for rows in order.split(batch_size, dim=1):
            logits, wanted = taggers(observations[models, rows]), labels[models, rows]
            # The sum over models of each one's mean: the gradient of a model is what it would be alone.
            loss = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="sum") / wanted[0].numel()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for metric, accuracy in accuracies(taggers.predict(validation[0]), validation[1]).items():
            selected[metric] = _better(selected.get(metric), accuracy, epoch, taggers)
        on_epoch()
    return selected


def _better(before: Selection | None, accuracy: Tensor, epoch: int, taggers: BiLSTMTaggers) -> Selection:
    """Takes the weights of this epoch for the models that are better than they have been."""
    now = Selection(
        accuracy,
        torch.full_like(accuracy, epoch, dtype=torch.long),
        {name: weights.detach().clone() for name, weights in taggers.named_parameters()},
    )
    if before is None:
        return now
    better = accuracy > before.accuracy

    def choose(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(better.view(-1, *[1] * (new.dim() - 1)), new, old)

    return Selection(
        choose(now.accuracy, before.accuracy),
        choose(now.epochs, before.epochs),
        {name: choose(weights, before.weights[name]) for name, weights in now.weights.items()},
    )
