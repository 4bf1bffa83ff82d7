"""Where decoding stands between two rounds.

Dimension letters: S source, T target, D model, V vocabulary; R rows: candidates of all sentences, of one side by side,
less those that finished.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch


@dataclass(frozen=True)
class NATState:
    """Where decoding stands; an architecture that must remember more adds fields, one row each.

    Args:
        input_ids (`torch.LongTensor` of shape `(R, S)`): source tokens.
        attention_mask (`torch.LongTensor` of shape `(R, S)`): 1 at source tokens.
        members (`tuple` of models): the ensemble, the model itself first.
        encoder_hidden_states (`tuple` of `torch.FloatTensor` of shape `(R, S, D)`): final encoder states of each
            member.
        tokens (`torch.LongTensor` of shape `(R, T)`): canvases: content, EOS, padding.
        scores (`torch.FloatTensor` of shape `(R, T)`): log-probability (nats) of each content token, elsewhere 0.
        finished (`torch.BoolTensor` of shape `(R,)`): True where more rounds would change nothing.
        max_iterations (`int`): rounds allowed.
        synced (`bool`): every round calls the decoder equally often, whatever the rows need.
        with_scores (`bool`): somebody will read the scores; where an architecture does not, they may stay 0.
        vocabulary (`torch.LongTensor` of shape `(V',)`, *optional*): the tokens that may be chosen, in rising order,
            none that an architecture forbids; by default all others.
        iteration (`int`): rounds executed. In a graph this and `max_iterations` are tensors of shape `()`.
        intermediate (`tuple` of `torch.LongTensor`): canvases `(R, T')` that the last round went through before
            `tokens`, for the history.
        log_probs (`torch.FloatTensor` of shape `(R,)`, *optional*): what an only round says of whole translations, see
            `sequences_log_probs` of [`NATGenerateOutput`].
        terms (`torch.LongTensor` of shape `(R, T)`, *optional*): marks of the terms, see `terms.py`; `None` where no
            sentence has any.
        continuations (`torch.BoolTensor` of shape `(V,)`, *optional*): with terms, True at the tokens that may not
            stand right behind one.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    members: tuple[Any, ...]
    encoder_hidden_states: tuple[torch.Tensor, ...]
    tokens: torch.Tensor
    scores: torch.Tensor
    finished: torch.Tensor
    max_iterations: int
    synced: bool = False
    with_scores: bool = True
    vocabulary: torch.Tensor | None = None
    iteration: int = 0
    intermediate: tuple[torch.Tensor, ...] = ()
    log_probs: torch.Tensor | None = None
    terms: torch.Tensor | None = None
    continuations: torch.Tensor | None = None

    def select(self, rows: torch.Tensor) -> Self:
        """Returns the state of some rows.

        Args:
            rows (`torch.LongTensor` of shape `(R',)`): indices of the rows.

        Returns:
            [`NATState`]: the smaller state.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        per_row = {name: value for name, value in values.items() if name not in ("vocabulary", "continuations")}
        kept: dict[str, Any] = {
            name: value[rows] for name, value in per_row.items() if isinstance(value, torch.Tensor)
        }
        kept["encoder_hidden_states"] = tuple(states[rows] for states in self.encoder_hidden_states)
        return dataclasses.replace(self, **kept)
