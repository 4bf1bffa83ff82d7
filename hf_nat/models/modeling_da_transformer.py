"""DA-Transformer: one decoder pass predicts a graph of vertices, whose paths are translations.

Dimension letters: B batch, S source, L vertices, T target, M target with BOS and EOS, D model, H heads, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple
from transformers.utils.generic import maybe_autocast

from .canvas import content_mask, prepend
from .configuration_da_transformer import DATransformerConfig
from .directed_acyclic import best_path, is_feasible, label_log_probs, linear_graph_loss
from .fuzzy_alignment import linear_fuzzy_loss
from .generation_da_transformer import DATransformerGenerationMixin
from .glancing import Glancing, first_pass, reveal
from .losses import reduce_logits, sentence_weights, token_share
from .modeling_nat import LearnedPositionalEmbedding, NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise
from .selection import selected_positions, take
from .source_copy import SourceCopy


@dataclass
class DATransformerOutput(NATSeq2SeqLMOutput):
    """Output of [`DATransformerForConditionalGeneration`]; see [`NATSeq2SeqLMOutput`] for the other fields.

    Args:
        links (`torch.FloatTensor` of shape `(B, L, L)`, *optional*): log-probability (nats) of the step from the first
            to the second vertex; minus infinity unless the second is the later one.
    """

    links: torch.Tensor | None = None


class VertexLinks(nn.Module):
    """Predicts for each vertex of a graph which later vertex a path goes on to.

    Args:
        config ([`DATransformerConfig`]): the model's configuration.

    Source: Huang et al. 2022, section 3.1: a mixture over heads, whose weights a gate predicts.
    """

    def __init__(self, config: DATransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.decoder_attention_heads
        self.embed_positions = LearnedPositionalEmbedding(config.max_position_embeddings, config.d_model)
        self.q_proj = nn.Linear(2 * config.d_model, config.d_model)
        self.k_proj = nn.Linear(2 * config.d_model, config.d_model)
        self.gate = nn.Linear(2 * config.d_model, self.num_heads)

    def forward(self, hidden_states: torch.Tensor, is_vertex: torch.Tensor) -> torch.Tensor:
        """Predicts the steps, in single precision.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(B, L, D)`): states of the vertices.
            is_vertex (`torch.BoolTensor` of shape `(B, L)`): True at the vertices, which come first in a row.

        Returns:
            `torch.FloatTensor` of shape `(B, L, L)`: log-probability of each step; minus infinity where there is none.
        """
        positions = self.embed_positions(hidden_states.shape[:2]).to(hidden_states.dtype)
        states = torch.cat([hidden_states, positions.expand_as(hidden_states)], dim=2)
        queries, keys = (
            projection(states).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj)
        )
        gates = self.gate(states).float().log_softmax(dim=2).transpose(1, 2).unsqueeze(3)
        later = torch.ones(2 * states.shape[1:2], dtype=torch.bool, device=states.device).triu(diagonal=1)
        allowed = later & is_vertex.unsqueeze(1) & is_vertex.unsqueeze(2)
        with maybe_autocast(states.device.type, enabled=False):
            scores = queries.float() @ keys.float().transpose(2, 3) / keys.shape[3] ** 0.5
        # Not minus infinity: rows without a step have no softmax.
        scores = scores.masked_fill(~allowed.unsqueeze(1), torch.finfo(scores.dtype).min)
        return (gates + scores.log_softmax(dim=3)).logsumexp(dim=1).masked_fill(~allowed, float("-inf"))


class DATransformerForConditionalGeneration(DATransformerGenerationMixin, NATPreTrainedModel):
    """Directed acyclic Transformer.

    A canvas is a graph of `graph_size_ratio` vertices for each source token: BOS, masks, EOS. Each vertex predicts a
    token and the next vertex; a translation is what the vertices of a path write, from BOS to EOS. The loss is the
    negative log-likelihood of the target over all paths. `from_pretrained(checkpoint, fuzzy_alignment=True)` goes on
    with the bigrams that target and graph share.

    A target longer than its graph has no path. Such pairs are left out of the loss; `token_shares["infeasible"]` is
    their share of the target tokens.

    Args:
        config ([`DATransformerConfig`]): configuration.

    Source: Huang et al. 2022 (arXiv:2205.07459). Differs: glancing reveals masks only, not also BOS and EOS.
    """

    config: DATransformerConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: DATransformerConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.links = VertexLinks(config)
        self.source_copy = SourceCopy(config.source_copy, config.d_model)
        self.glancing = Glancing(config) if config.is_glancing else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        inputs_embeds: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        skip_logits: bool | None = None,
        **kwargs: Any,
    ) -> DATransformerOutput:
        """Predicts the graph and, with labels, adds up its paths that write the target.

        The canvas `(B, L)`, by default BOS, masks and EOS, switches glancing off where it is given; `generator` draws
        what glancing reveals. For the arguments see [`NATPreTrainedModel`].

        Returns:
            [`DATransformerOutput`]: `loss` with `labels`: the sum over the feasible sentences, per target token; with
            `fuzzy_alignment` the mean over them, each counted as often as it has target tokens.
            `logits` and `links` of the vertices; in training with `labels` they are `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given, or no source.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        shares = {}
        if decoder_input_ids is None:
            assert labels is not None
            decoder_input_ids = self.initial_canvas(attention_mask)
            ratio = self.glancing.next_ratio() if self.training and self.glancing is not None else 0.0
            if ratio:
                encoder_outputs = self.model.encode(**source, encoder_outputs=encoder_outputs, **kwargs)
                noise = TargetNoise(labels, self.training, generator)
                same, revealed, decoder_input_ids = self._glance(
                    decoder_input_ids, labels, ratio, noise, source, encoder_outputs
                )
                content = content_mask(labels.ne(-100))
                shares["correct"] = token_share(same, content, labels, num_items_in_batch)
                shares["glanced"] = token_share(revealed, content, labels, num_items_in_batch)
        outputs = self._decode(decoder_input_ids, source, encoder_outputs, **kwargs)
        is_vertex = decoder_input_ids.ne(self.config.pad_token_id)
        links = self.links(outputs.last_hidden_state, is_vertex)
        logits, components = None, None
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            targets, num_labels = self._targets(labels)
            graph = (outputs.last_hidden_state, self.lm_head.weight, links, is_vertex, targets, num_labels)
            weights = sentence_weights(labels, num_items_in_batch)
            if self.config.fuzzy_alignment:
                components = {"fuzzy": linear_fuzzy_loss(*graph, weights)}
            else:
                by_token = weights / labels.ne(-100).sum(dim=1).clamp(min=1)
                components = {"word": linear_graph_loss(*graph, by_token, self.config.label_smoothing)}
            shares["infeasible"] = (weights * ~is_feasible(num_labels, is_vertex.sum(dim=1))).sum()
        return DATransformerOutput.build(
            outputs, components, logits=logits, links=None if logits is None else links, token_shares=shares or None
        )

    def infeasible_pairs(self, attention_mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Marks the pairs that the loss leaves out: their target, with BOS, is longer than the graph of its source.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.

        Returns:
            `torch.BoolTensor` of shape `(B,)`: True where the target does not fit.
        """
        num_vertices = self.initial_canvas(attention_mask).ne(self.config.pad_token_id).sum(dim=1)
        _, num_labels = self._targets(labels)
        return ~is_feasible(num_labels, num_vertices)

    def _targets(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts BOS before labels `[B, T]`: targets `[B, T + 1]`, padded, and their lengths `[B]`."""
        is_label = labels.ne(-100)
        targets = prepend(labels.masked_fill(~is_label, self.config.pad_token_id), self.config.bos_token_id)
        return targets, is_label.sum(dim=1) + 1

    def _glance(
        self,
        canvas: torch.Tensor,
        labels: torch.Tensor,
        ratio: float,
        noise: TargetNoise,
        source: dict[str, Any],
        encoder_outputs: BaseModelOutput,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reveals labels `[B, T]` at vertices of their most probable paths.

        Of n tokens that the vertices of the path get wrong, ratio * n, rounded, choose a token to reveal, a right or a
        wrong one.

        Returns:
            `tuple` of marks `[B, T]` of the labels that are right without help, and of those revealed, and of the
            canvas `[B, L]` that shows these.
        """
        is_vertex = canvas.ne(self.config.pad_token_id)
        uniforms = noise.uniform(labels.shape[1])
        targets, num_labels = self._targets(labels)
        with first_pass(canvas.device):
            hidden_states = self._decode(canvas, source, encoder_outputs).last_hidden_state
            links, weight = self.links(hidden_states, is_vertex), self.lm_head.weight
            match = label_log_probs(hidden_states, weight, is_vertex, targets)
            path = best_path(match, links, num_labels, is_vertex.sum(dim=1))[:, 1:]
            eligible = content_mask(labels.ne(-100)) & (path >= 0)
            vertices = path.clamp(min=0)
            on_path = hidden_states.gather(1, vertices.unsqueeze(2).expand(-1, -1, hidden_states.shape[2]))
            on_path = take(on_path, selected_positions(eligible))
            predicted = reduce_logits(on_path, weight, lambda logits: logits.argmax(dim=1))
        same = eligible & (labels.masked_scatter(eligible, predicted) == labels)
        counts = (eligible & ~same).sum(dim=1).double() * ratio + 0.5
        revealed = reveal(eligible, counts.clamp(max=eligible.sum(dim=1)), uniforms)
        # A column more takes what is not revealed.
        shown = nn.functional.pad(canvas, (0, 1)).scatter(
            1, vertices.masked_fill(~revealed, canvas.shape[1]), labels.masked_fill(~revealed, 0)
        )
        return same, revealed, shown[:, :-1]
