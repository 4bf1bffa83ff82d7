"""Generation of the DA-Transformer: one graph, one path through it.

Dimension letters: B batch, K candidates of a sentence, S source, L vertices, T target, D model, V vocabulary; rows of
a state are R = B * K, candidates of a sentence side by side.
"""

import dataclasses
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig

from .canvas import compact, content_mask, end_canvas, mask_canvas
from .generation_nat import NATGenerateOutput, NATGenerationMixin, NATState, first_candidate_scores
from .graph_decoding import follow, joint_viterbi, step_scores
from .source_copy import SourceCopyMixin


GRAPH_DECODINGS = ("greedy", "lookahead", "viterbi")


@dataclass(frozen=True)
class DATransformerState(NATState):
    """State of a DA-Transformer; see [`NATState`] for the other fields. Before its only round a canvas is a graph.

    Args:
        settings (`SimpleNamespace`): the knobs.
    """

    settings: SimpleNamespace = None  # type: ignore[assignment]


class DATransformerGenerationMixin(SourceCopyMixin, NATGenerationMixin):
    """Generation for a model that predicts a graph of vertices: one round, no length predictor.

    `graph_decoding` says how a path is found: `greedy` takes the most probable step, `lookahead` the most probable
    pair of step and token, `viterbi` the most probable pair of path and tokens, where `viterbi_length_penalty` decides
    between lengths. Of several `num_candidates` the first is that path; the others are the best ones of `viterbi`,
    each of another length. `collapse_repeats` is what the authors' code always does.

    Source: Huang et al. 2022 (greedy, lookahead); Shao et al. 2022 (arXiv:2210.05193; joint Viterbi).
    """

    generation_defaults = {
        **NATGenerationMixin.generation_defaults,
        "max_iterations": 1,
        "graph_decoding": "lookahead",
        "viterbi_length_penalty": 1.0,
        "num_candidates": 1,
    }
    candidate_knobs = ("num_candidates",)
    ensemble_fields = (*NATGenerationMixin.ensemble_fields, "graph_size_ratio")
    is_traceable = True
    iteration_limit = 1

    def _resolve_settings(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> SimpleNamespace:
        settings = super()._resolve_settings(generation_config, kwargs)
        if settings.graph_decoding not in GRAPH_DECODINGS:
            raise ValueError(
                f"`graph_decoding` must be one of {', '.join(GRAPH_DECODINGS)}, got {settings.graph_decoding!r}."
            )
        return settings

    def graph_canvas(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Builds canvases of BOS, masks and EOS, `graph_size_ratio` vertices for each source token.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.LongTensor` of shape `(B, L)`: the canvases, of at least 2 tokens and within the model's positions.
        """
        config = self.config
        lengths = (attention_mask.sum(dim=1) * config.graph_size_ratio).long()
        lengths = lengths.clamp(min=2, max=config.max_position_embeddings)
        canvas = mask_canvas(lengths, config.mask_token_id, config.eos_token_id, config.pad_token_id)
        canvas[:, 0] = config.bos_token_id
        return canvas

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> DATransformerState:
        """See [`NATGenerationMixin.init_state`]; `max_length` is the longest translation, not the longest canvas."""
        rows = torch.arange(input_ids.shape[0], device=input_ids.device).repeat_interleave(settings.num_candidates)
        tokens = self.graph_canvas(attention_mask)[rows]
        return DATransformerState(
            input_ids=input_ids[rows],
            attention_mask=attention_mask[rows],
            members=members,
            encoder_hidden_states=tuple(states[rows] for states in encoder_hidden_states),
            tokens=tokens,
            scores=torch.zeros(tokens.shape, device=tokens.device),
            finished=torch.zeros_like(rows, dtype=torch.bool),
            max_iterations=settings.max_iterations,
            settings=settings,
        )

    def refine(self, state: DATransformerState) -> DATransformerState:  # type: ignore[override]
        """Predicts graphs and writes the tokens of a path through each; the only round.

        A token's score is the log-probability of token and step, given the path so far. The history also shows the
        paths.

        Args:
            state ([`DATransformerState`]): the state.

        Returns:
            [`DATransformerState`]: the final state.
        """
        config, num_candidates = self.config, state.settings.num_candidates
        sentences = state.select(torch.arange(0, state.tokens.shape[0], num_candidates, device=state.tokens.device))
        words, word_scores, links = self._graph(sentences)
        paths = self._paths(sentences, word_scores, links)
        rows = torch.arange(paths.shape[0], device=paths.device).repeat_interleave(num_candidates)
        words, paths = words[rows], paths.flatten(0, 1)
        scores = word_scores[rows] + step_scores(links[rows], paths)
        tokens, scores = compact(words, scores, paths, config.pad_token_id)
        tokens, scores = end_canvas(
            tokens, scores, state.settings.max_length, config.eos_token_id, config.pad_token_id
        )
        shown = torch.where(paths, words, state.tokens)
        return dataclasses.replace(
            state, tokens=tokens, scores=scores, finished=torch.ones_like(state.finished), intermediate=(shown,)
        )

    def _graph(self, state: DATransformerState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predicts the graphs of a state: best words `[B, L]`, their scores, and links `[B, L, L]`, both log-probs.

        The last vertex writes EOS, the others no special token.
        """
        config, is_vertex = self.config, state.tokens.ne(self.config.pad_token_id)
        members, is_last = state.members, ~content_mask(is_vertex)[is_vertex]
        hidden_states = [
            member.canvas_states(state, states)
            for member, states in zip(members, state.encoder_hidden_states, strict=True)
        ]
        links = [member.links(states, is_vertex) for member, states in zip(members, hidden_states, strict=True)]
        at_vertices = [states[is_vertex] for states in hidden_states]
        words, scores = self._best_tokens(state, at_vertices, self._special_token_ids())
        ends = []
        for member, states in zip(members, at_vertices, strict=True):
            at_end, weight = states[is_last], member.lm_head.weight
            word, log_prob = words[is_last], scores[is_last]
            if len(members) > 1:
                alone = dataclasses.replace(state, members=(member,))
                word, log_prob = self._best_tokens(alone, [at_end], self._special_token_ids())
            # From a word and its log-probability follows what all words weigh together.
            all_words = (at_end * weight[word]).sum(dim=1).float() - log_prob
            end = (at_end @ weight[config.eos_token_id]).float()
            ends.append(end - torch.logaddexp(all_words, end))
        scores = scores.masked_scatter(is_last, torch.stack(ends).exp().mean(dim=0).log())
        return (
            state.tokens.masked_scatter(is_vertex, words.masked_fill(is_last, config.eos_token_id)),
            state.scores.masked_scatter(is_vertex, scores),
            links[0] if len(links) == 1 else torch.stack(links).logsumexp(dim=0) - math.log(len(links)),
        )

    def _paths(self, state: DATransformerState, word_scores: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
        """Finds paths `[B, K, L]` between the ends of graphs."""
        is_vertex, settings = state.tokens.ne(self.config.pad_token_id), state.settings
        num_vertices, num_candidates = is_vertex.sum(dim=1), settings.num_candidates
        found = []
        if settings.graph_decoding != "viterbi":
            looks_ahead = settings.graph_decoding == "lookahead"
            most_vertices = self.config.max_position_embeddings  # A graph does not know its width before it runs.
            if not torch.compiler.is_exporting():
                most_vertices = links.shape[1]
            path = follow(links + word_scores.unsqueeze(1) if looks_ahead else links, num_vertices, most_vertices)
            path &= content_mask(is_vertex)
            path[:, 0] = False
            found.append(path.unsqueeze(1))
            num_candidates -= 1
        if num_candidates:
            # Twice the source is enough for a translation.
            max_words = torch.minimum(2 * state.attention_mask.sum(dim=1), num_vertices - 2)
            max_words = max_words.clamp(max=settings.max_length - 1)
            penalty = settings.viterbi_length_penalty
            found.append(joint_viterbi(links, word_scores, num_vertices, max_words, penalty, num_candidates))
        return torch.cat(found, dim=1)

    def _candidate_scores(self, state: NATState, output: NATGenerateOutput) -> torch.Tensor:
        """Returns scores by which the first candidate, the best path, wins."""
        return first_candidate_scores(output.sequences, state.settings.num_candidates)  # type: ignore[attr-defined]
