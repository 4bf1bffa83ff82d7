"""What a decoder reads where its canvas is still unknown: a copy of the source embeddings.

Dimension letters: B batch, S source, T target, D model.
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from .canvas import source_positions


# Width of the `interpolate` weights and first temperature of the `soft` ones, both from the original codes.
_INTERPOLATE_WIDTH = 0.3
_SOFT_TEMPERATURE = 0.5


def uniform_indices(source_lengths: torch.Tensor, target_lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Spreads the source evenly over the target: position t reads source row round(t (S - 1) / (T - 1)).

    The first position reads the first row and the last position the last row, EOS both; halves are rounded to even.

    Args:
        source_lengths (`torch.LongTensor` of shape `(B,)`): source lengths in tokens, EOS counted (S).
        target_lengths (`torch.LongTensor` of shape `(B,)`): target lengths in tokens, EOS counted (T).
        width (`int`): number of columns; those behind a target hold the last row.

    Returns:
        `torch.LongTensor` of shape `(B, width)`: source rows.

    Source: Gu et al. 2018, section 3.1 ("uniform" copy); rounding as in fairseq.
    """
    positions = torch.arange(width, device=source_lengths.device)
    last = (source_lengths - 1).unsqueeze(1)
    steps = (target_lengths - 1).clamp(min=1).unsqueeze(1)
    return torch.minimum((positions * last / steps).round().long(), last)


class SourceCopy(nn.Module):
    """Turns source embeddings into embeddings for the positions of a target of known length.

    Modes; t and j are 0-based positions in target and source, S and T the lengths with EOS:
        - `uniform`: row round(t (S - 1) / (T - 1)), see [`uniform_indices`];
        - `uniform_shifted`: row round((t + 1) (S - 1) / T);
        - `interpolate`: mean of the rows with weights exp(-(j - t S / T)^2 / 0.3), normalised;
        - `soft`: mean of the rows with weights exp(-|j - t| / temperature), normalised; the temperature is learned;
        - `attention`: attention from target positions to source rows with their positions;
        - `none`: no copy, the embedding of the mask token.

    Args:
        mode (`str`): one of the modes.
        d_model (`int`): width of the embeddings (D).

    Source: Gu et al. 2018, section 3.1 (`uniform`, `interpolate`); Gu and Kong 2021 (`uniform_shifted`, `soft`); Qian
        et al. 2021 (`attention`).
    """

    def __init__(self, mode: str, d_model: int) -> None:
        super().__init__()
        self.mode = mode
        if mode == "soft":
            self.temperature = nn.Parameter(torch.empty(()))
        elif mode == "attention":
            self.q_proj = nn.Linear(d_model, d_model, bias=False)
            self.k_proj = nn.Linear(d_model, d_model, bias=False)

    def init_temperature(self) -> None:
        """Sets the temperature to its first value, if the mode has one."""
        if self.mode == "soft":
            init.constant_(self.temperature, _SOFT_TEMPERATURE)

    def embed_canvas(
        self,
        model: Any,
        canvas: torch.Tensor,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embeds a canvas, its masks as copies of the source.

        Args:
            model ([`NATModel`]): gives embedding, positions and special tokens.
            canvas (`torch.LongTensor` of shape `(B, T)`): target tokens, known or masked.
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            inputs_embeds (`torch.FloatTensor` of shape `(B, S, D)`, *optional*): source embeddings before scaling, in
                place of `input_ids`.

        Returns:
            `torch.FloatTensor` of shape `(B, T, D)`: embeddings before scaling.

        Raises:
            ValueError: if there is no source to copy.
        """
        embeds = model.shared(canvas)
        if self.mode == "none":
            return embeds
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("One of `input_ids` and `inputs_embeds` must be given for the source copy, got none.")
            inputs_embeds = model.shared(input_ids)
        copied = self(
            inputs_embeds, attention_mask, canvas.ne(model.config.pad_token_id), model.decoder.embed_positions
        )
        return torch.where(canvas.eq(model.config.mask_token_id).unsqueeze(2), copied, embeds)

    def forward(
        self,
        source_embeds: torch.Tensor,
        source_mask: torch.Tensor,
        target_mask: torch.Tensor,
        embed_positions: nn.Module,
    ) -> torch.Tensor:
        """Copies.

        Args:
            source_embeds (`torch.FloatTensor` of shape `(B, S, D)`): token embeddings without positions.
            source_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            target_mask (`torch.LongTensor` of shape `(B, T)`): 1 at target positions.
            embed_positions (`nn.Module`): from a shape `(B, L)` to position embeddings `(L, D)`, or `(B, L, D)` of
                `position_ids`.

        Returns:
            `torch.FloatTensor` of shape `(B, T, D)`: embeddings without positions.
        """
        width, positions = target_mask.shape[1], source_positions(source_mask)
        source_lengths, target_lengths = source_mask.sum(dim=1), target_mask.sum(dim=1)
        if self.mode in ("uniform", "uniform_shifted"):
            if self.mode == "uniform":
                rows = uniform_indices(source_lengths, target_lengths, width)
            else:
                # The same spread, one position later, in a target that is one token longer.
                rows = uniform_indices(source_lengths, target_lengths + 1, width + 1)[:, 1:]
            # Padding before the source moves its rows.
            rows = rows + source_mask.ne(0).int().argmax(dim=1, keepdim=True)
            return source_embeds.gather(1, rows.unsqueeze(2).expand(-1, -1, source_embeds.shape[2]))
        if self.mode == "attention":
            queries = self.q_proj(embed_positions(target_mask.shape))
            keys = self.k_proj(source_embeds + embed_positions(source_mask.shape, position_ids=positions))
            weights = queries @ keys.transpose(1, 2) / keys.shape[2] ** 0.5
        else:
            weights = self._distance_weights(source_lengths, target_lengths, positions, width)
        weights = weights.float().masked_fill(source_mask.unsqueeze(1) == 0, float("-inf")).softmax(dim=2)
        return weights.to(source_embeds.dtype) @ source_embeds

    def _distance_weights(
        self, source_lengths: torch.Tensor, target_lengths: torch.Tensor, positions: torch.Tensor, num_target: int
    ) -> torch.Tensor:
        """Returns unnormalised log-weights `[B, T, S]` that fall with the distance of the positions `[B, S]`."""
        sources = positions.unsqueeze(1)
        targets = torch.arange(num_target, device=positions.device).view(1, -1, 1)
        if self.mode == "soft":
            return -(sources - targets).abs() / self.temperature
        ratio = (source_lengths / target_lengths).view(-1, 1, 1)
        return -((sources - targets * ratio) ** 2) / _INTERPOLATE_WIDTH


class SourceCopyMixin:
    """What models share whose decoder reads a copy of the source at masks."""

    config: Any
    model: Any
    lm_head: Any
    source_copy: SourceCopy

    def _decode(
        self,
        canvas: torch.Tensor,
        source: dict[str, Any],
        encoder_outputs: BaseModelOutput | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs the model on a canvas `[B, T]`; `source` are `input_ids`, `attention_mask` and `inputs_embeds`.

        Returns:
            `Seq2SeqModelOutput`: the output of [`NATModel`].
        """
        return self.model(
            **source,
            decoder_inputs_embeds=self.source_copy.embed_canvas(self.model, canvas, **source),
            decoder_attention_mask=canvas.ne(self.config.pad_token_id),
            encoder_outputs=encoder_outputs,
            **kwargs,
        )

    def canvas_states(self, state: Any, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        """Runs the decoder on the canvases of a state.

        Args:
            state ([`NATState`]): the state, of R rows.
            encoder_hidden_states (`torch.FloatTensor` of shape `(R, S, D)`): this model's encoder states.

        Returns:
            `torch.FloatTensor` of shape `(R, T, D)`: final decoder states.
        """
        embeds = self.source_copy.embed_canvas(self.model, state.tokens, state.input_ids, state.attention_mask)
        return self.model.decoder(
            attention_mask=state.tokens.ne(self.config.pad_token_id),
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=state.attention_mask,
            inputs_embeds=embeds,
        ).last_hidden_state
