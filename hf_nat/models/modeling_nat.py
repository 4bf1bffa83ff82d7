"""What every non-autoregressive model is made of: Marian's encoder and Marian's decoder without the causal mask.

Dimension letters: B batch, S source, T target, D model, M length bins, V vocabulary.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    ModelOutput,
    Seq2SeqModelOutput,
)
from transformers.models.marian.modeling_marian import (
    MarianAttention,
    MarianDecoderLayer,
    MarianEncoderLayer,
    MarianSinusoidalPositionalEmbedding,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .canvas import source_positions
from .configuration_nat import NATConfig
from .glancing import Glancing
from .losses import linear_cross_entropy, token_weights
from .selection import selected_positions, take
from .source_copy import SourceCopy
from .teacher import text_vocab_size
from .warm_start import LayerSelection, copy_blocks


@dataclass
class NATSeq2SeqLMOutput(ModelOutput):
    """Output of a non-autoregressive translation model.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*): loss in nats per target token; given with `labels`.
        logits (`torch.FloatTensor` of shape `(B, T, V)`, *optional*): unnormalised scores of the canvas positions.
        length_logits (`torch.FloatTensor` of shape `(B, M)`, *optional*): unnormalised scores of the length classes.
        loss_components (`dict[str, torch.Tensor]`, *optional*): weighted parts of the loss; they sum to it, detached.
        token_shares (`dict[str, torch.Tensor]`, *optional*): shares of the target tokens, of an update where the loss
            is: `infeasible`, of sentences that are left out of the loss because the target does not fit; with
            glancing `correct`, positions that the first pass gets right, and `glanced`, those revealed to the second;
            with order-agnostic training `left_out`, words that are too improbable in any order.
        encoder_last_hidden_state (`torch.FloatTensor` of shape `(B, S, D)`, *optional*): final encoder states.
        encoder_hidden_states (`tuple`, *optional*): encoder states of every layer.
        encoder_attentions (`tuple`, *optional*): encoder attention weights of every layer.
        decoder_hidden_states (`tuple`, *optional*): decoder states of every layer.
        decoder_attentions (`tuple`, *optional*): decoder self-attention weights of every layer.
        cross_attentions (`tuple`, *optional*): attention weights from decoder to encoder of every layer.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    length_logits: torch.Tensor | None = None
    loss_components: dict[str, torch.Tensor] | None = None
    token_shares: dict[str, torch.Tensor] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    encoder_attentions: tuple[torch.Tensor, ...] | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    decoder_attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None

    @classmethod
    def build(cls, base: Seq2SeqModelOutput, loss_components: dict[str, torch.Tensor] | None, **outputs: Any) -> Self:
        """Builds the output of a head from that of [`NATModel`] and the parts of the loss.

        Args:
            base (`Seq2SeqModelOutput`): output of [`NATModel`].
            loss_components (`dict[str, torch.Tensor]`, *optional*): weighted parts of the loss, with their graph.
            **outputs (`torch.Tensor`): the head's own fields.

        Returns:
            [`NATSeq2SeqLMOutput`]: the output.
        """
        if loss_components is not None:
            outputs["loss"] = torch.stack(list(loss_components.values())).sum()
            loss_components = {name: part.detach() for name, part in loss_components.items()}
        shared: dict[str, Any] = {f.name: getattr(base, f.name) for f in fields(cls) if hasattr(base, f.name)}
        return cls(loss_components=loss_components, **outputs, **shared)


class SinusoidalPositionalEmbedding(MarianSinusoidalPositionalEmbedding):
    """Marian's sinusoidal positions, which are not trained, whatever the release of transformers has of them."""

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Looks up positions as the parent does."""
        return super().forward(*args, **kwargs).detach()


class LearnedPositionalEmbedding(nn.Embedding):
    """Learned positions, called as Marian's sinusoidal ones are."""

    def forward(self, shape: torch.Size, *, position_ids: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Looks up the positions of `(B, L)` tokens.

        Args:
            shape (`torch.Size`): batch size and number of tokens.
            position_ids (`torch.LongTensor` of shape `(B, L)`, *optional*): positions, by default from 0 in each row.

        Returns:
            `torch.FloatTensor` of shape `(L, D)`, or `(B, L, D)` with `position_ids`: position embeddings.
        """
        if position_ids is None:
            position_ids = torch.arange(shape[1], device=self.weight.device)
        return super().forward(position_ids)


def positional_embedding(config: NATConfig) -> nn.Embedding:
    """Builds the position embedding that the configuration asks for.

    Args:
        config ([`NATConfig`]): the model's configuration.

    Returns:
        `nn.Embedding`: a module from the shape `(B, L)` to embeddings of shape `(L, D)`, or of `position_ids`.
    """
    learned = config.position_embedding_type == "learned"
    kind = LearnedPositionalEmbedding if learned else SinusoidalPositionalEmbedding
    return kind(config.max_position_embeddings, config.d_model)


class NATPreTrainedModel(PreTrainedModel):
    """Weight initialisation, loading and warm start of the non-autoregressive models.

    The `forward` of each takes `labels` to learn from, or a canvas `decoder_input_ids` to score; it says what the
    canvas is by default, what one that is given switches off, and what `generator` draws.

    Args of `forward`, all optional:
        input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens.
        attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens, by default everywhere but at
            padding.
        labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
        decoder_input_ids (`torch.LongTensor` of shape `(B, T)`): a canvas.
        decoder_attention_mask (`torch.LongTensor` of shape `(B, T)`): 1 at tokens of the canvas, by default everywhere
            but at padding.
        encoder_outputs (`BaseModelOutput`): result of the encoder.
        inputs_embeds (`torch.FloatTensor` of shape `(B, S, D)`): source embeddings before scaling.
        num_items_in_batch (`int` or `torch.Tensor`): target tokens of the whole update.
        generator (`torch.Generator`): source of what is drawn in training, see [`TargetNoise`].
        skip_logits (`bool`): leave `logits` out; by default in training with `labels`.
        **kwargs: `output_hidden_states`, `output_attentions` and the like.
    """

    config: NATConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["MarianEncoderLayer", "MarianDecoderLayer"]
    # A checkpoint may go on with glancing, or without it.
    _keys_to_ignore_on_load_missing = [r"glancing\.num_batches"]
    _keys_to_ignore_on_load_unexpected = [r"glancing\.num_batches"]
    # Its cross-attention takes the padding of the source for that of the canvas where the two differ in length.
    _supports_flash_attn = False
    _supports_sdpa = True
    _supports_flex_attn = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MarianSinusoidalPositionalEmbedding):
            init.copy_(module.weight, module.create_weight())
        elif isinstance(module, SourceCopy):
            module.init_temperature()
        elif isinstance(module, Glancing):
            module.reset()

    def _canvas(
        self,
        labels: torch.Tensor | None,
        decoder_input_ids: torch.Tensor | None,
        decoder_attention_mask: torch.Tensor | None,
        others: Mapping[str, Any],
    ) -> torch.Tensor | None:
        """Puts padding where a mask `[B, T]` is 0 on the canvas `[B, T]` that it belongs to; needs that or labels.

        A canvas of embeddings among the `others` arguments of `forward` is refused: its masks and its padding, which
        every architecture looks for, could not be told.
        """
        if others.get("decoder_inputs_embeds") is not None:
            raise ValueError(
                f"`decoder_inputs_embeds` must be left out for {type(self).__name__}, whose canvas is made of tokens. "
                "Use `decoder_input_ids`."
            )
        if decoder_input_ids is None:
            if decoder_attention_mask is not None:
                raise ValueError(
                    "`decoder_attention_mask` belongs to `decoder_input_ids`, got none. Give them, or leave it out."
                )
            if labels is None:
                raise ValueError("One of `labels` and `decoder_input_ids` must be given, got none.")
            return None
        if decoder_attention_mask is None:
            return decoder_input_ids
        return decoder_input_ids.masked_fill(decoder_attention_mask.eq(0), self.config.pad_token_id)

    def _skips_logits(self, labels: torch.Tensor | None, asked: bool | None) -> bool:
        """Says whether `forward` leaves its logits out, given what it was `asked`: nobody reads those of a loss."""
        return self.training and labels is not None if asked is None else asked

    def _word_loss(
        self,
        hidden_states: torch.Tensor,
        selected: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None,
        kept: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross-entropy per target token of the labels `[B, T]` at the selected positions of states `[B, T, D]`.

        Where `kept` `[B, T]` is False a selected position adds 0; the others do not count for more.
        """
        positions = selected_positions(selected)
        weights = token_weights(selected, labels, num_items_in_batch)
        if kept is not None:
            weights = weights * kept
        return linear_cross_entropy(
            take(hidden_states, positions),
            self.lm_head.weight,
            take(labels, positions),
            take(weights, positions),
            label_smoothing=self.config.label_smoothing,
        )[0]

    @classmethod
    def from_teacher(
        cls,
        teacher: PreTrainedModel,
        *,
        vocab_size: int | None = None,
        mask_token_id: int | None = None,
        layer_selection: LayerSelection = "spread",
        **config_overrides: Any,
    ) -> Self:
        """Builds a student that starts from a teacher's embedding, encoder and decoder.

        Sizes, activation, dropout and special tokens are the teacher's unless overridden, as are its sinusoidal
        positions (learned positions start from them). Rows of new tokens and heads that the teacher lacks start from
        N(0, `init_std`). A `final_logits_bias` is left behind, and of a mixture the experts' tokens, the last of its
        vocabulary, and the gating network.

        Args:
            teacher (`PreTrainedModel`): a `MarianMTModel` with one shared embedding, a mixture of experts too, or any
                model whose parameters carry the same names.
            vocab_size (`int`, *optional*): vocabulary of the student, which starts with the teacher's. By default the
                teacher's, without expert tokens, and one more where the mask token is new.
            mask_token_id (`int`, *optional*): id of the mask token. By default the teacher's own mask token, else a
                new token behind the teacher's vocabulary.
            layer_selection (`str`, *optional*, defaults to `"spread"`): which layers of the teacher a student of
                another depth (`encoder_layers`, `decoder_layers`) starts from, see `selected_layers`.
            **config_overrides: fields of the student's configuration.

        Returns:
            The student, in single precision.

        Raises:
            ValueError: if a field is unknown, the vocabulary is smaller than the teacher's, a mixture's expert tokens
                are not its last ones, or the parameters of the two do not correspond.
        """
        config_class: Any = cls.config_class
        own_fields = {f.name for f in fields(config_class)} - {f.name for f in fields(PreTrainedConfig)}
        unknown = sorted(set(config_overrides) - own_fields)
        if unknown:
            raise ValueError(f"`config_overrides` must be fields of `{config_class.__name__}`, got {unknown}.")
        teacher_vocab_size = text_vocab_size(teacher.config)
        if mask_token_id is None:
            mask_token_id = getattr(teacher.config, "mask_token_id", teacher_vocab_size)
        if vocab_size is None:
            vocab_size = max(teacher_vocab_size, mask_token_id + 1)
        if vocab_size < teacher_vocab_size:
            raise ValueError(
                f"`vocab_size` must be at least the teacher's {teacher_vocab_size}, got {vocab_size}. "
                "Student and teacher must share their vocabulary."
            )
        inherited = {name: getattr(teacher.config, name) for name in own_fields if hasattr(teacher.config, name)}
        inherited.update(vocab_size=vocab_size, mask_token_id=mask_token_id, **config_overrides)
        student = cls(config_class(**inherited))
        copy_blocks(student, teacher, teacher_vocab_size, layer_selection)
        return student


def bidirectional_mask(
    config: NATConfig,
    queries: torch.Tensor,
    mask: torch.Tensor | None,
    encoder_hidden_states: torch.Tensor | None = None,
) -> Any:
    """Makes a padding mask fit the attention of the config: of `queries` (B, T, D) to themselves or encoder states."""
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=queries,
        attention_mask=mask,
        encoder_hidden_states=encoder_hidden_states,
        allow_is_bidirectional_skip=not queries.is_meta,  # `meta` cannot say whether it hides anything
    )


def _embed(
    stack: "NATEncoder | NATDecoder",
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    position_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scales token embeddings, adds positions and applies dropout: [B, L] or [B, L, D] to [B, L, D]."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Exactly one of token ids and embeddings must be given, got both or none.")
    config = stack.config
    if inputs_embeds is None:
        inputs_embeds = stack.embed_tokens(input_ids)
    length = inputs_embeds.shape[1]
    if not torch.compiler.is_exporting() and length > config.max_position_embeddings:
        raise ValueError(
            f"A sequence must have at most `max_position_embeddings` = {config.max_position_embeddings} tokens, "
            f"got {length}. Truncate it."
        )
    scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
    positions = stack.embed_positions(inputs_embeds.shape[:2], position_ids=position_ids)
    hidden_states = inputs_embeds * scale + positions
    return nn.functional.dropout(hidden_states, p=config.dropout, training=stack.training)


class NATEncoder(NATPreTrainedModel):
    """Marian's encoder, with learned or sinusoidal positions."""

    _can_record_outputs = {"hidden_states": MarianEncoderLayer, "attentions": MarianAttention}

    def __init__(self, config: NATConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.embed_positions = positional_embedding(config)
        layers = [MarianEncoderLayer(config) for _ in range(config.encoder_layers)]  # type: ignore[arg-type]
        self.layers = nn.ModuleList(layers)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Encodes the source, padded on either side; `inputs_embeds` are token embeddings before scaling."""
        position_ids = None
        if attention_mask is not None and attention_mask.dim() == 2:
            position_ids = source_positions(attention_mask)
        hidden_states = _embed(self, input_ids, inputs_embeds, position_ids)
        self_attention_mask = bidirectional_mask(self.config, hidden_states, attention_mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, self_attention_mask, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)


class NATDecoder(NATPreTrainedModel):
    """Marian's decoder whose positions all see each other."""

    _can_record_outputs = {
        "hidden_states": MarianDecoderLayer,
        "attentions": OutputRecorder(MarianAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(MarianAttention, index=1, layer_name="encoder_attn"),
    }

    def __init__(self, config: NATConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.embed_positions = positional_embedding(config)
        layers = [MarianDecoderLayer(config, layer_idx=i) for i in range(config.decoder_layers)]  # type: ignore[arg-type]
        for layer in layers:
            layer.self_attn.is_causal = False
        self.layers = nn.ModuleList(layers)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        num_layers: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decodes a canvas, with all layers or the first ones; `inputs_embeds` are token embeddings before scaling."""
        hidden_states = _embed(self, input_ids, inputs_embeds)
        self_attention_mask = bidirectional_mask(self.config, hidden_states, attention_mask)
        cross_attention_mask = bidirectional_mask(
            self.config, hidden_states, encoder_attention_mask, encoder_hidden_states
        )
        for layer in self.layers[:num_layers]:
            hidden_states = layer(
                hidden_states,
                self_attention_mask,
                encoder_hidden_states,  # positional for gradient checkpointing
                encoder_attention_mask=cross_attention_mask,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden_states)


class NATModel(NATPreTrainedModel):
    """Encoder and bidirectional decoder on one shared embedding."""

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }

    def __init__(self, config: NATConfig) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.encoder = NATEncoder(config)
        self.decoder = NATDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding that the encoder reads with, the same weights as on all sides."""
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        """Replaces the embedding on all sides."""
        self.shared = self.encoder.embed_tokens = self.decoder.embed_tokens = value

    def source_mask(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the attention mask, by default 1 at every token but padding (at every embedding).

        Raises:
            ValueError: if nothing is given.
        """
        if attention_mask is None and input_ids is not None:
            attention_mask = input_ids.ne(self.config.pad_token_id)
        if attention_mask is not None:
            return attention_mask.long()
        if inputs_embeds is not None:
            return torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        raise ValueError("One of `input_ids`, `inputs_embeds` and `attention_mask` must be given, got none.")

    def encode(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor,
        inputs_embeds: torch.Tensor | None,
        encoder_outputs: Any,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encodes the source, unless `encoder_outputs`, which may be a tuple, are given."""
        if encoder_outputs is None:
            return self.encoder(input_ids, attention_mask, inputs_embeds, **kwargs)
        return encoder_outputs if isinstance(encoder_outputs, BaseModelOutput) else BaseModelOutput(*encoder_outputs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput:
        """Encodes the source, unless `encoder_outputs` are given, and decodes the canvas.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.LongTensor` of shape `(B, S)`, *optional*): 1 at source tokens, by default
                everywhere but at padding.
            decoder_input_ids (`torch.LongTensor` of shape `(B, T)`, *optional*): the canvas.
            decoder_attention_mask (`torch.BoolTensor` of shape `(B, T)`, *optional*): True at canvas tokens, by
                default everywhere but at padding.
            encoder_outputs (`BaseModelOutput`, *optional*): result of the encoder.
            inputs_embeds (`torch.FloatTensor` of shape `(B, S, D)`, *optional*): source embeddings before scaling.
            decoder_inputs_embeds (`torch.FloatTensor` of shape `(B, T, D)`, *optional*): canvas embeddings before
                scaling.
            **kwargs: `output_hidden_states`, `output_attentions` and the like.

        Returns:
            `Seq2SeqModelOutput`: final states of decoder and encoder, and what else was asked for.
        """
        attention_mask = self.source_mask(input_ids, attention_mask, inputs_embeds)
        encoder_outputs = self.encode(input_ids, attention_mask, inputs_embeds, encoder_outputs, **kwargs)
        if decoder_attention_mask is None and decoder_input_ids is not None:
            decoder_attention_mask = decoder_input_ids.ne(self.config.pad_token_id)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            inputs_embeds=decoder_inputs_embeds,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )
