from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from nat_model_tester import (
    BOS,
    EOS,
    MASK,
    PAD,
    assert_translations,
    tiny_batch,
    tiny_model,
    tiny_teacher,
)
from torch.testing import assert_close

from hf_nat.models import DATransformerConfig, DATransformerForConditionalGeneration
from hf_nat.models.directed_acyclic import best_path, graph_log_likelihood
from hf_nat.models.graph_decoding import joint_viterbi


def targets(batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels with BOS before them, and their number."""
    labels = torch.nn.functional.pad(batch["labels"].clamp(min=0), (1, 0), value=BOS)
    return labels, batch["labels"].ne(-100).sum(1) + 1


def match(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-probabilities `[B, M, L]` of labels at vertices."""
    log_probs = logits.detach().log_softmax(2)
    return log_probs.gather(2, labels.unsqueeze(1).expand(-1, logits.shape[1], -1)).transpose(1, 2)


def recorded_canvases(model: DATransformerForConditionalGeneration) -> list[torch.Tensor]:
    canvases: list[torch.Tensor] = []
    embed_canvas = model.source_copy.embed_canvas
    model.source_copy.embed_canvas = lambda m, canvas, *args, **kwargs: (
        canvases.append(canvas) or embed_canvas(m, canvas, *args, **kwargs)
    )
    return canvases


@pytest.mark.parametrize("ratio", [4, 1])
def test_loss_is_the_likelihood_of_the_graph_per_target_token_of_all_pairs(ratio: int) -> None:
    model, batch = tiny_model("da_transformer", graph_size_ratio=ratio), tiny_batch()
    output, (labels, num_labels) = model(**batch), targets(batch)
    num_vertices = (ratio * batch["attention_mask"].sum(1)).clamp(min=2)
    log_likelihood, _ = graph_log_likelihood(match(output.logits, labels), output.links, num_labels, num_vertices)
    fits, num_tokens = num_labels <= num_vertices, batch["labels"].ne(-100).sum(1)
    assert fits.all() == (ratio == 4)
    assert_close(output.loss, -log_likelihood[fits].sum() / num_tokens.sum())
    assert_close(output.token_shares["infeasible"], num_tokens[~fits].sum() / num_tokens.sum())


def test_pair_that_does_not_fit_changes_no_weight() -> None:
    model = tiny_model("da_transformer", graph_size_ratio=1, glancing_ratio=0.5).train()
    output = model(**tiny_batch([1]))
    output.loss.backward()
    assert output.loss == 0 and output.token_shares["infeasible"] == 1 and output.token_shares["glanced"] == 0
    assert all(p.grad is None or p.grad.eq(0).all() for p in model.parameters())


def test_links_are_distributions_over_later_vertices() -> None:
    model, batch = tiny_model("da_transformer"), tiny_batch()
    links = model(**batch).links
    for row, size in enumerate((4 * batch["attention_mask"].sum(1)).tolist()):
        sums = links[row].exp().sum(1)
        assert_close(sums, (torch.arange(len(sums)) < size - 1).float())
        assert links[row].tril().isinf().eq(torch.ones_like(links[row]).tril().bool()).all()
        assert links[row, :, size:].isinf().all()


def test_canvas_is_a_graph_of_bos_masks_and_eos() -> None:
    model, batch = tiny_model("da_transformer", graph_size_ratio=2.5), tiny_batch()
    canvas = model.initial_canvas(batch["attention_mask"])
    assert canvas.ne(PAD).sum(1).tolist() == [17, 7, 2, 12]
    assert canvas[2].tolist()[:3] == [BOS, EOS, PAD] and canvas[1].tolist()[:8] == [BOS, *[MASK] * 5, EOS, PAD]
    assert model.initial_canvas(torch.ones(1, 20)).shape == (1, 32)
    assert torch.equal(model(**batch).logits, model(batch["input_ids"], decoder_input_ids=canvas).logits)


@pytest.mark.parametrize("decoding", ["greedy", "lookahead", "viterbi"])
def test_generate_follows_the_graph(decoding: str) -> None:
    model, batch = tiny_model("da_transformer"), tiny_batch()
    output = model(**batch)
    logits, links = output.logits.detach(), output.links.detach()
    generated = model.generate(
        batch["input_ids"], graph_decoding=decoding, return_dict_in_generate=True, return_history=True
    )
    for row, size in enumerate((4 * batch["attention_mask"].sum(1)).tolist()):
        words = logits[row, :size].clone()
        words[:, [PAD, BOS, MASK]] = float("-inf")
        end = words[-1].log_softmax(0)[EOS]
        words[:-1, EOS] = float("-inf")
        best, tokens = words.log_softmax(1).max(1)
        best[-1] = end
        vertex, path = 0, []
        if decoding == "viterbi":
            limit = torch.tensor([min(2 * size // 4, size - 2)])
            (marks,) = joint_viterbi(links[[row], :size, :size], best[None], torch.tensor([size]), limit, 1.0)[0]
            path = marks.nonzero().squeeze(1).tolist()
        else:
            while vertex < size - 1:
                steps = links[row, vertex, :size] + (best if decoding == "lookahead" else 0)
                vertex = int(steps.argmax())
                path.append(vertex)
            path.pop()
        expected = tokens[path].tolist()
        assert generated.sequences[row, : len(path) + 1].tolist() == [*expected, EOS]
        scores = [float(best[j] + links[row, i, j]) for i, j in pairwise([0, *path])]
        assert generated.token_scores[row, : len(path)].tolist() == pytest.approx(scores, rel=1e-4)
        log_prob = sum(scores) + float(links[row, [0, *path][-1], size - 1])
        assert generated.sequences_log_probs[row].item() == pytest.approx(log_prob, rel=1e-4)
        canvas, shown, translation = generated.history[row]
        assert canvas.tolist() == [BOS, *[MASK] * (size - 2), EOS] and translation.tolist() == [*expected, EOS]
        assert [token for token in shown.tolist() if token not in (BOS, MASK)] == [*expected, EOS]


def test_viterbi_by_length_penalty_and_candidates() -> None:
    model, batch = tiny_model("da_transformer"), tiny_batch()
    lengths = []
    for penalty in (0.0, 1.0, 5.0):
        sequences = model.generate(batch["input_ids"], graph_decoding="viterbi", viterbi_length_penalty=penalty)
        lengths.append(sequences.ne(PAD).sum(1))
    assert (lengths[0] <= lengths[1]).all() and (lengths[1] <= lengths[2]).all() and (lengths[0] < lengths[2]).any()
    best = model.generate(batch["input_ids"], graph_decoding="viterbi")
    several = model.generate(batch["input_ids"], graph_decoding="viterbi", num_candidates=3)
    assert torch.equal(best, several)
    chosen = model.generate(batch["input_ids"], graph_decoding="viterbi", num_candidates=3, teacher=tiny_teacher())
    assert_translations(chosen)
    assert not torch.equal(chosen, best)


def test_candidates_beside_the_path_of_another_decoding() -> None:
    model, source = tiny_model("da_transformer"), tiny_batch()["input_ids"]
    followed = model.generate(source)
    assert torch.equal(model.generate(source, num_candidates=3), followed)
    settings = model._resolve_settings(None, {"num_candidates": 3})
    mask = source.ne(PAD).long()
    encoded = model.get_encoder()(source, mask).last_hidden_state
    with torch.no_grad():
        tokens = model.refine(model.init_state(source, mask, (model,), (encoded,), settings)).tokens.view(4, 3, -1)
    assert torch.equal(tokens[:, 0, : followed.shape[1]], followed)
    by_length = model.generate(source, graph_decoding="viterbi", num_candidates=3, num_return_sequences=3)
    is_best = []
    for row in range(4):
        (first, *rest), others = (
            [words[: words.index(EOS)] for words in candidates.tolist()]
            for candidates in (tokens[row], by_length.view(4, 3, -1)[row])
        )
        is_best.append(first == others[0])
        assert rest == [*(other for other in others if other != first), first][:2]
    assert len(set(is_best)) == 2


def paths_by_log_prob(
    model: DATransformerForConditionalGeneration, source: torch.Tensor
) -> tuple[torch.Tensor, list[tuple[float, tuple[int, ...]]]]:
    """Log-probabilities of the words `[L, V]` and, by enumeration, of the steps of all paths of one graph."""
    output = model(source, decoder_input_ids=model.initial_canvas(torch.ones_like(source)))
    words = output.logits[0].detach()
    words[:, [PAD, BOS, MASK, EOS]] = float("-inf")
    last = len(words) - 1
    paths = [path for number in range(last) for path in combinations(range(1, last), number)]
    links = output.links[0].detach()
    steps = [sum(float(links[i, j]) for i, j in pairwise([0, *path, last])) for path in paths]
    return words.log_softmax(1), list(zip(steps, paths, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_log_probs_of_a_beam_are_those_over_all_paths(seed: int) -> None:
    model = tiny_model("da_transformer", seed=seed, graph_size_ratio=1.5)
    source = torch.tensor([[5, 6, 7, EOS]])
    words, paths = paths_by_log_prob(model, source)
    found = model.generate(
        source,
        graph_decoding="beam",
        graph_beam_size=40,
        num_candidates=6,
        num_return_sequences=6,
        return_dict_in_generate=True,
    )
    for tokens, log_prob in zip(found.sequences.tolist(), found.sequences_log_probs.tolist(), strict=True):
        content = tokens[: tokens.index(EOS)]
        exact = [
            steps + sum(float(words[i, token]) for i, token in zip(path, content, strict=True))
            for steps, path in paths
            if len(path) == len(content)
        ]
        assert log_prob == pytest.approx(torch.tensor(exact).logsumexp(0).item(), rel=1e-4)


def test_log_probs_of_viterbi_are_those_of_the_best_path_of_a_length() -> None:
    model = tiny_model("da_transformer", graph_size_ratio=1.5)
    source = torch.tensor([[5, 6, 7, EOS]])
    words, paths = paths_by_log_prob(model, source)
    scores, tokens = words.max(1)
    # 1 to 4 words fit between the ends: two candidates are repetitions.
    found = model.generate(
        source,
        graph_decoding="viterbi",
        num_candidates=6,
        num_return_sequences=6,
        return_dict_in_generate=True,
    )
    best = {}
    for steps, path in paths:
        log_prob = steps + float(scores[list(path)].sum())
        if log_prob > best.get(len(path), (float("-inf"),))[0]:
            best[len(path)] = log_prob, tokens[list(path)].tolist()
    for row, log_prob in zip(found.sequences.tolist()[:4], found.sequences_log_probs.tolist(), strict=False):
        content = row[: row.index(EOS)]
        assert best.pop(len(content)) == (pytest.approx(log_prob, rel=1e-4), content)
    assert found.sequences_log_probs[4:].tolist() == [float("-inf")] * 2
    assert found.sequences[4].tolist() == found.sequences[5].tolist() == found.sequences[0].tolist()


@pytest.mark.parametrize("decoding", ["greedy", "lookahead", "viterbi", "beam"])
def test_candidates_are_all_different(decoding: str) -> None:
    for seed in range(4):
        model, source = tiny_model("da_transformer", seed=seed), tiny_batch()["input_ids"]
        options = {"graph_decoding": decoding, "num_candidates": 4, "num_return_sequences": 4}
        found = model.generate(source, **options, return_dict_in_generate=True)
        rows = zip(found.sequences.tolist(), found.sequences_log_probs.tolist(), strict=True)
        by_sentence = [[next(rows) for _ in range(4)] for _ in source]
        for candidates in by_sentence:
            different = [tokens for tokens, log_prob in candidates if log_prob > float("-inf")]
            assert len({tuple(tokens) for tokens in different}) == len(different)
            assert all(tokens in different for tokens, _ in candidates)
        # An empty source has a graph of few paths.
        assert [len([1 for _, log_prob in by_sentence[row] if log_prob > float("-inf")]) for row in (0, 1, 3)] == [
            4
        ] * 3


def test_unknown_decoding_is_an_error() -> None:
    with pytest.raises(ValueError, match="`graph_decoding` must be one of greedy, .*, beam, got 'best'"):
        tiny_model("da_transformer").generate(torch.tensor([[5, EOS]]), graph_decoding="best")


@pytest.mark.parametrize("decoding", ["lookahead", "viterbi"])
def test_max_length_caps_the_translation(decoding: str) -> None:
    model, source = tiny_model("da_transformer"), tiny_batch()["input_ids"]
    for cap in (1, 2, 3):
        sequences = model.generate(source, max_length=cap, graph_decoding=decoding)
        assert_translations(sequences)
        assert sequences.shape[1] <= cap


def test_glancing_reveals_a_share_of_the_wrong_tokens_at_the_best_path() -> None:
    model, batch = tiny_model("da_transformer", glancing_ratio=0.5).train(), tiny_batch()
    canvases = recorded_canvases(model)
    output = model(**batch)
    first, second = canvases
    labels, num_labels = targets(batch)
    graph = model.eval()(batch["input_ids"], decoder_input_ids=first)
    path = best_path(match(graph.logits, labels), graph.links.detach(), num_labels, first.ne(PAD).sum(1))
    revealed = second.ne(first)
    predicted = graph.logits.argmax(2)
    for row, count in enumerate(num_labels.tolist()):
        inner = path[row, 1 : count - 1].tolist()
        wrong = sum(int(predicted[row, v] != labels[row, m]) for m, v in enumerate(inner, start=1))
        assert int(revealed[row].sum()) == int(wrong * 0.5 + 0.5)
        shown = {vertex: int(labels[row, m]) for m, vertex in enumerate(inner, start=1)}
        for vertex in revealed[row].nonzero().squeeze(1).tolist():
            assert int(second[row, vertex]) == shown[vertex]
    assert revealed.any()
    assert_close(output.loss, model(**batch, decoder_input_ids=second).loss)


def test_positions_of_links_are_their_own() -> None:
    model, batch = tiny_model("da_transformer"), tiny_batch()
    before = model(**batch)
    model.links.embed_positions.weight.data.mul_(-1)
    after = model(**batch)
    assert torch.equal(before.logits, after.logits) and not torch.equal(before.links, after.links)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"graph_size_ratio": 0.5}, "`graph_size_ratio` must be >= 1, got 0.5"),
        ({"bos_token_id": 2}, r"`bos_token_id` must not be the token of padding, EOS or mask \(0, 2, 4\), got 2"),
    ],
)
def test_bad_configuration_is_an_error(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DATransformerConfig(**fields)
