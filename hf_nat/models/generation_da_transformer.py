"""Generation of the DA-Transformer: one graph, one path through it.

Dimension letters: B batch, K candidates of a sentence, S source, L vertices, T target, D model, V vocabulary; rows of
a state are R = B * K, candidates of a sentence side by side.
"""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from .canvas import compact, content_mask, end_canvas, mask_canvas, stable_order
from .generation_nat import NATGenerationMixin
from .generation_settings import MAX_BEAMS
from .generation_upsampled import UpsampledNATGenerationMixin, UpsampledState
from .graph_beam import GraphWords, graph_beam_search
from .graph_decoding import follow, joint_viterbi, step_scores
from .word_choice import best_tokens


GRAPH_DECODINGS = ("greedy", "lookahead", "viterbi", "beam")


class DATransformerGenerationMixin(UpsampledNATGenerationMixin):
    """Generation for a model that predicts a graph of vertices.

    `graph_decoding` says how a translation is found: `greedy` takes the most probable step, `lookahead` the most
    probable pair of step and token, `viterbi` the most probable pair of path and tokens, where
    `viterbi_length_penalty` decides between lengths. `beam` searches for the most probable tokens, over all paths,
    with `graph_beam_size` hypotheses, and divides log P(Y), plus `lm_weight` * log P_LM(Y) with a `language_model`,
    by |Y| ** `graph_beam_length_penalty`.

    Of several `num_candidates` `beam` finds the best. Otherwise the first is the path, and the others are the best
    ones of `viterbi`, each of another length and none that reads like the first. `collapse_repeats` is what the
    authors' code always does but for `beam`.

    Source: Huang et al. 2022 (greedy, lookahead, beam); Shao et al. 2022 (arXiv:2210.05193; joint Viterbi).
    """

    generation_defaults = {
        **UpsampledNATGenerationMixin.generation_defaults,
        "graph_decoding": "lookahead",
        "viterbi_length_penalty": 1.0,
        "graph_beam_size": 10,
        "graph_beam_length_penalty": 1.1,
        "lm_weight": 0.1,
        "num_candidates": 1,
    }
    candidate_knobs = ("num_candidates",)
    scores_candidates = False
    ensemble_fields = (*NATGenerationMixin.ensemble_fields, "graph_size_ratio")
    canvas_places = "vertices"

    def _resolve_settings(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> SimpleNamespace:
        settings = super()._resolve_settings(generation_config, kwargs)
        if settings.graph_decoding not in GRAPH_DECODINGS:
            raise ValueError(
                f"`graph_decoding` must be one of {', '.join(GRAPH_DECODINGS)}, got {settings.graph_decoding!r}."
            )
        if not 1 <= settings.graph_beam_size <= MAX_BEAMS:
            raise ValueError(f"`graph_beam_size` must be in [1, {MAX_BEAMS}], got {settings.graph_beam_size}.")
        return settings

    def require_beam(self, settings: SimpleNamespace) -> None:
        """See [`NATGenerationMixin.require_beam`]."""
        if not self._searches(settings):
            raise ValueError(
                f"`graph_decoding` must be 'beam' with a `language_model`, got {settings.graph_decoding!r}."
            )

    def idle_knobs(self, settings: SimpleNamespace) -> dict[str, str]:
        """See [`NATSettingsMixin.idle_knobs`]."""
        names = () if self._searches(settings) else ("graph_beam_size", "graph_beam_length_penalty", "lm_weight")
        if self._searches(settings) or (settings.graph_decoding != "viterbi" and settings.num_candidates == 1):
            names = (*names, "viterbi_length_penalty")
        return dict.fromkeys(names, f"with `graph_decoding: {settings.graph_decoding}`")

    def _searches(self, settings: SimpleNamespace) -> bool:
        return settings.graph_decoding == "beam"

    def initial_canvas(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Builds canvases of BOS, masks and EOS, `graph_size_ratio` vertices for each source token.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.LongTensor` of shape `(B, L)`: the canvases, of at least 2 tokens and within the model's positions.
        """
        config = self.config
        width = None
        if not torch.compiler.is_exporting():  # A graph would keep what Python rounds.
            # In the precision of the lengths, which the longest row must not exceed.
            widest = int(torch.tensor(attention_mask.shape[1], device="cpu") * config.graph_size_ratio)
            width = max(2, min(widest, config.max_position_embeddings))
        longest = width or config.max_position_embeddings
        lengths = (attention_mask.sum(dim=1) * config.graph_size_ratio).long().clamp(min=2, max=longest)
        canvas = mask_canvas(lengths, config.mask_token_id, config.eos_token_id, config.pad_token_id, width)
        canvas[:, 0] = config.bos_token_id
        return canvas

    def refine(self, state: UpsampledState) -> UpsampledState:  # type: ignore[override]
        """Predicts graphs and writes the tokens of a path through each; the only round.

        A token's score is the log-probability of token and step, given the path so far; with `beam` that of the token,
        given those before it. The log-probability of a whole translation adds to the former those of the last step,
        after which EOS is certain. But for `beam`, which follows no path of its own, the history also shows the paths.

        Args:
            state ([`UpsampledState`]): the state.

        Returns:
            [`UpsampledState`]: the final state.
        """
        config, settings, sentences = self.config, state.settings, self._sentences(state)
        shown: tuple[torch.Tensor, ...] = ()
        if settings.graph_decoding == "beam":
            tokens, scores, log_probs = self._search(sentences)
        else:
            words, word_scores, links = self._graph(sentences)
            paths, is_new = self._paths(sentences, words, word_scores, links)
            rows = torch.arange(paths.shape[0], device=paths.device).repeat_interleave(paths.shape[1])
            words, word_scores, paths = words[rows], word_scores[rows], paths.flatten(0, 1)
            shown = (torch.where(paths, words, state.tokens),)
            is_vertex = state.tokens.ne(config.pad_token_id)
            to_end = paths | (is_vertex & ~content_mask(is_vertex))
            steps = step_scores(links[rows], to_end)
            log_probs = (steps.masked_fill(~to_end, 0.0) + word_scores.masked_fill(~paths, 0.0)).sum(dim=1)
            log_probs = log_probs.masked_fill(~is_new.flatten(), float("-inf"))
            scores = word_scores + steps
            tokens, scores = compact(words, scores, paths, config.pad_token_id)
        tokens, scores = end_canvas(tokens, scores, settings.max_length, config.eos_token_id, config.pad_token_id)
        return dataclasses.replace(
            state,
            tokens=tokens,
            scores=scores,
            log_probs=log_probs,
            finished=torch.ones_like(state.finished),
            intermediate=shown,
        )

    def _vertices(self, state: UpsampledState) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Predicts the graphs of a state: marks `[B, L]` of N vertices, their states `[N, D]` of each member, links.

        The latter are log-probabilities `[B, L, L]`.
        """
        is_vertex, members = state.tokens.ne(self.config.pad_token_id), state.members
        hidden_states = [
            member.canvas_states(state, states)
            for member, states in zip(members, state.encoder_hidden_states, strict=True)
        ]
        links = [member.links(states, is_vertex) for member, states in zip(members, hidden_states, strict=True)]
        average = links[0] if len(links) == 1 else torch.stack(links).logsumexp(dim=0) - math.log(len(links))
        return is_vertex, [states[is_vertex] for states in hidden_states], average

    def _graph(self, state: UpsampledState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predicts the graphs of a state: best words `[B, L]`, their scores, and links `[B, L, L]`, both log-probs.

        The last vertex writes EOS, the others no special token.
        """
        config, members = self.config, state.members
        is_vertex, at_vertices, links = self._vertices(state)
        is_last = ~content_mask(is_vertex)[is_vertex]
        words, scores = best_tokens(state, at_vertices, self._special_token_ids())
        ends = []
        for member, states in zip(members, at_vertices, strict=True):
            at_end, weight = states[is_last], member.lm_head.weight
            word, log_prob = words[is_last], scores[is_last]
            if len(members) > 1:
                alone = dataclasses.replace(state, members=(member,))
                word, log_prob = best_tokens(alone, [at_end], self._special_token_ids())
            # From a word and its log-probability follows what all words weigh together.
            all_words = (at_end * weight[word]).sum(dim=1).float() - log_prob
            end = (at_end @ weight[config.eos_token_id]).float()
            ends.append(end - torch.logaddexp(all_words, end))
        scores = scores.masked_scatter(is_last, torch.stack(ends).exp().mean(dim=0).log())
        return (
            state.tokens.masked_scatter(is_vertex, words.masked_fill(is_last, config.eos_token_id)),
            state.scores.masked_scatter(is_vertex, scores),
            links,
        )

    def _max_words(self, state: UpsampledState) -> torch.Tensor:
        """Returns how long `[B]` the translations may be, in words: twice the source is enough."""
        num_vertices = state.tokens.ne(self.config.pad_token_id).sum(dim=1)
        longest = torch.minimum(2 * state.attention_mask.sum(dim=1), num_vertices - 2)
        return longest.clamp(max=state.settings.max_length - 1)

    def _paths(
        self, state: UpsampledState, words: torch.Tensor, word_scores: torch.Tensor, links: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Finds paths `[B, K, L]` between the ends of graphs; marks `[B, K]` those that read like no earlier one."""
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
        if not found or num_candidates > 1:
            penalty = settings.viterbi_length_penalty
            max_words = self._max_words(state)
            found.append(joint_viterbi(links, word_scores, num_vertices, max_words, penalty, num_candidates))
        paths = torch.cat(found, dim=1)
        if num_candidates == 1:
            return paths, torch.ones_like(paths[:, :, 0])
        is_new = _first_of_equal(words, paths)
        kept = stable_order(is_new.int(), descending=True)[:, :num_candidates]
        return paths.gather(1, kept.unsqueeze(2).expand(-1, -1, paths.shape[2])), is_new.gather(1, kept)

    def _search(self, state: UpsampledState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Searches for candidates, best first: tokens, scores `[R, M]`, padding and 0 behind them; log P(Y) `[R]`."""
        config, settings = self.config, state.settings
        is_vertex, hidden_states, links = self._vertices(state)
        special = self._special_token_ids()
        # More words of a vertex than hypotheses are kept would be of no use to the best of them.
        choices = config.vocab_size - len(set(special)) if state.vocabulary is None else len(state.vocabulary)
        num_words = min(settings.graph_beam_size, choices)
        tokens, log_probs = best_tokens(state, hidden_states, special, num_tokens=num_words)
        shape = (*is_vertex.shape, num_words)
        words = GraphWords(
            tokens.new_zeros(shape).masked_scatter(is_vertex.unsqueeze(2), tokens),
            log_probs.new_zeros(shape).masked_scatter(is_vertex.unsqueeze(2), log_probs),
        )
        found = graph_beam_search(
            words,
            links,
            is_vertex.sum(dim=1),
            self._max_words(state),
            beam_size=settings.graph_beam_size,
            length_penalty=settings.graph_beam_length_penalty,
            eos_token_id=config.eos_token_id,
            num_candidates=settings.num_candidates,
            fusion=self._fusion(settings),
        )
        # A column more, for EOS behind the longest.
        tokens, scores = (nn.functional.pad(x.flatten(0, 1), (0, 1)) for x in (found.tokens, found.token_scores))
        is_word = torch.arange(tokens.shape[1], device=tokens.device) < found.lengths.flatten().unsqueeze(1)
        log_probs = torch.where(found.scores.isfinite(), found.log_probs, found.scores).flatten()
        return tokens.masked_fill(~is_word, config.pad_token_id), scores.masked_fill(~is_word, 0.0), log_probs


def _first_of_equal(words: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """Marks `[B, K]` the paths `[B, K, L]` over words `[B, L]` that do not read like an earlier one."""
    num_paths = paths.shape[1]
    rows = words.unsqueeze(1).expand(paths.shape).flatten(0, 1)
    # No token is -1.
    written, _ = compact(rows, torch.zeros(rows.shape, device=rows.device), paths.flatten(0, 1), -1)
    written = written.view(len(words), num_paths, -1)
    equal = (written.unsqueeze(1) == written.unsqueeze(2)).all(dim=3)
    return ~equal.tril(diagonal=-1).any(dim=2)
