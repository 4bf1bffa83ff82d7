"""Beam search over the prefixes that a directed acyclic graph of vertices can write.

The paths that write a prefix may end at several vertices; it is one hypothesis, and what they have is added up.

Dimension letters: R rows, L vertices, N words of a vertex, U different words of a row, W hypotheses of a row, C words
that a hypothesis grows by, K candidates, M tokens of the longest translation.
"""

import dataclasses
from dataclasses import dataclass

import torch

from .canvas import first_of_runs
from .shallow_fusion import ShallowFusion


@dataclass(frozen=True)
class GraphWords:
    """What the vertices of graphs write.

    Args:
        tokens (`torch.LongTensor` of shape `(R, L, N)`): the words of each vertex, all different.
        log_probs (`torch.FloatTensor` of shape `(R, L, N)`): their log-probabilities in nats.
    """

    tokens: torch.Tensor
    log_probs: torch.Tensor

    def by_word(self, is_vertex: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turns them into the different words of each row.

        Args:
            is_vertex (`torch.BoolTensor` of shape `(R, L)`): True at vertices whose words count.

        Returns:
            `tuple` of the words (`torch.LongTensor` of shape `(R, U)`, any behind them) and their probabilities at the
            vertices (`torch.FloatTensor` of shape `(R, L, U)`).
        """
        tokens, order = self.tokens.flatten(1).sort(dim=1)
        is_new = first_of_runs(tokens)
        columns = is_new.cumsum(dim=1) - 1
        width = int(columns.amax()) + 1
        words = tokens.new_zeros(len(tokens), width).scatter(1, columns, tokens)
        columns = torch.empty_like(columns).scatter(1, order, columns).view(self.tokens.shape)
        probabilities = self.log_probs.exp().masked_fill(~is_vertex.unsqueeze(2), 0.0)
        emissions = probabilities.new_zeros(*is_vertex.shape, width).scatter(2, columns, probabilities)
        return words, emissions


@dataclass(frozen=True)
class GraphCandidates:
    """Translations that a search has found, or the hypotheses that it follows.

    Args:
        tokens (`torch.LongTensor` of shape `(R, K, M)`): their words, with any behind them.
        token_scores (`torch.FloatTensor` of shape `(R, K, M)`): log-probability in nats of each word after those
            before it, over all paths.
        lengths (`torch.LongTensor` of shape `(R, K)`): words of each.
        log_probs (`torch.FloatTensor` of shape `(R, K)`): log-probability of the whole translation, of a hypothesis
            that of all that begins with it, over all paths.
        scores (`torch.FloatTensor` of shape `(R, K)`): what they are sorted by; minus infinity where candidates have
            run out and the best one is repeated.
    """

    tokens: torch.Tensor
    token_scores: torch.Tensor
    lengths: torch.Tensor
    log_probs: torch.Tensor
    scores: torch.Tensor

    def select(self, rows: torch.Tensor) -> "GraphCandidates":
        """Picks candidates `(R, K')` of each row."""
        wide = rows.unsqueeze(2).expand(-1, -1, self.tokens.shape[2])
        return GraphCandidates(
            self.tokens.gather(1, wide),
            self.token_scores.gather(1, wide),
            *(values.gather(1, rows) for values in (self.lengths, self.log_probs, self.scores)),
        )

    def best_with(self, others: "GraphCandidates", number: int) -> "GraphCandidates":
        """Returns the best of two lots of candidates, best first; of equal ones those of the first lot."""
        both = GraphCandidates(
            *(
                torch.cat([getattr(lot, field.name) for lot in (self, others)], dim=1)
                for field in dataclasses.fields(self)
            )
        )
        return both.select(both.scores.sort(dim=1, descending=True, stable=True).indices[:, :number])


@torch.no_grad()
def graph_beam_search(
    words: GraphWords,
    links: torch.Tensor,
    num_vertices: torch.Tensor,
    max_words: torch.Tensor,
    *,
    beam_size: int,
    length_penalty: float,
    eos_token_id: int,
    num_candidates: int = 1,
    fusion: ShallowFusion | None = None,
) -> GraphCandidates:
    """Finds the most probable translations, each over the paths that write it.

    Hypotheses are prefixes of one length at a time, as probable as the translations that begin with them. They end at
    the last vertex, which writes EOS. A translation Y has the score (log P(Y) + weight * log P_LM(Y)) / |Y| **
    length_penalty, where EOS counts for |Y|.

    Args:
        words ([`GraphWords`]): what the vertices write; that of the first and the last does not count.
        links (`torch.FloatTensor` of shape `(R, L, L)`): log-probability of each step; minus infinity where there is
            none.
        num_vertices (`torch.LongTensor` of shape `(R,)`): vertices of each graph, at least 2.
        max_words (`torch.LongTensor` of shape `(R,)`): longest translation of each graph, in words, at least 0.
        beam_size (`int`): hypotheses of a length that are kept (W).
        length_penalty (`float`): see above.
        eos_token_id (`int`): id of EOS, for the language model.
        num_candidates (`int`, *optional*, defaults to 1): translations to find (K).
        fusion ([`ShallowFusion`], *optional*): takes part, also in the choice of the hypotheses.

    Returns:
        [`GraphCandidates`]: the translations.

    Source: Huang et al. 2022, section 3.4 and their code. Differs: the hypotheses of a length compete, where theirs
        sweep the vertices.
    """
    last = (num_vertices - 1).unsqueeze(1)
    vertices = torch.arange(links.shape[1], device=links.device)
    vocabulary, emissions = words.by_word((vertices > 0) & (vertices < last))
    steps = links.exp()
    to_end = steps.gather(2, last.unsqueeze(1).expand(-1, links.shape[1], 1))
    beam = _start(links, int(max_words.max()))
    # Probability that a path which writes the hypothesis ends at a vertex.
    visits = (vertices == 0).to(links.dtype).expand(len(links), 1, -1)
    found = None
    for length in range(beam.tokens.shape[2] + 1):
        end = (visits @ to_end).squeeze(2).log()
        total = beam.scores + end
        if fusion is not None:
            total = total + fusion.end(beam.tokens, beam.lengths, total.isfinite(), eos_token_id)
        total = (total / (length + 1) ** length_penalty).masked_fill(length > max_words.unsqueeze(1), float("-inf"))
        ended = dataclasses.replace(beam, log_probs=beam.log_probs + end, scores=total)
        found = ended if found is None else found.best_with(ended, num_candidates)
        if length < beam.tokens.shape[2]:
            arriving = visits @ steps
            beam, columns, origins = _grow(beam, arriving @ emissions, vocabulary, beam_size, fusion)
            visits = arriving.gather(1, origins.unsqueeze(2).expand(-1, -1, links.shape[1]))
            visits = visits * emissions.gather(2, columns.unsqueeze(1).expand(-1, links.shape[1], -1)).transpose(1, 2)
            visits = visits / visits.sum(dim=2, keepdim=True).clamp(min=torch.finfo(visits.dtype).tiny)
    assert found is not None
    ranks = torch.arange(num_candidates, device=links.device).expand(len(links), -1)
    exists = (ranks < found.scores.shape[1]) & found.scores.gather(
        1, ranks.clamp(max=found.scores.shape[1] - 1)
    ).isfinite()
    found = found.select(torch.where(exists, ranks, 0))
    return dataclasses.replace(found, scores=found.scores.masked_fill(~exists, float("-inf")))


def _start(links: torch.Tensor, max_words: int) -> GraphCandidates:
    """The one hypothesis without words."""
    tokens = torch.zeros(len(links), 1, max_words, dtype=torch.long, device=links.device)
    return GraphCandidates(
        tokens,
        token_scores=links.new_zeros(tokens.shape),
        lengths=tokens.new_zeros(len(links), 1),
        log_probs=links.new_zeros(len(links), 1),
        scores=links.new_zeros(len(links), 1),
    )


def _grow(
    beam: GraphCandidates,
    probabilities: torch.Tensor,
    vocabulary: torch.Tensor,
    beam_size: int,
    fusion: ShallowFusion | None,
) -> tuple[GraphCandidates, torch.Tensor, torch.Tensor]:
    """Lets hypotheses grow by the words `[R, U]`, whose probabilities after them are `[R, W, U]`.

    Returns:
        `tuple` of the W' hypotheses that are kept, their last words as numbers `[R, W']` of the U, and those `[R, W']`
        of the W that they grew from.
    """
    num_grown = min(beam_size, vocabulary.shape[1])
    word_scores, columns = probabilities.log().topk(num_grown, dim=2)
    tokens = vocabulary.unsqueeze(1).expand(-1, word_scores.shape[1], -1).gather(2, columns)
    scores = beam.scores.unsqueeze(2) + word_scores
    if fusion is not None:
        scores = scores + fusion(beam.tokens, beam.lengths, torch.where(scores.isfinite(), tokens, -1))
    scores, chosen = scores.flatten(1).topk(min(beam_size, scores[0].numel()), dim=1)
    columns, tokens, word_scores = (values.flatten(1).gather(1, chosen) for values in (columns, tokens, word_scores))
    origins = chosen // num_grown
    beam = dataclasses.replace(beam.select(origins), scores=scores)
    position = beam.lengths.unsqueeze(2)
    return (
        GraphCandidates(
            tokens=beam.tokens.scatter(2, position, tokens.unsqueeze(2)),
            token_scores=beam.token_scores.scatter(2, position, word_scores.unsqueeze(2)),
            lengths=beam.lengths + 1,
            log_probs=beam.log_probs + word_scores,
            scores=scores,
        ),
        columns,
        origins,
    )
