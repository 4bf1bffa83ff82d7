"""The search of CTC's beam in numbers, lists and arrays alone: Python, which numba compiles where it is installed.

All that is compiled stands in this file, since numba keeps what it has compiled until the file changes.

Dimension letters: F frames of a row, W hypotheses, V columns of labels, G n-grams of an automaton, T tokens.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np


# Scores that are looked at together when the best ones are looked for.
_BLOCK = 64


class NGramAutomaton(NamedTuple):
    """An n-gram model with back-off: a state is the longest end of the tokens so far that the model knows.

    N-grams are numbered by order, then by context, then by last word; 0 is the one without words. A word has the
    number of its 1-gram.

    Attributes:
        start (`int`): the state at the start of a sentence.
        words (`np.ndarray` of shape `(T,)`): the word of each token; that of `<unk>` where the model does not know it.
        unknown (`int`): the word of all other tokens.
        first (`np.ndarray` of shape `(G + 1,)`): the first n-gram whose context is each n-gram, behind those of the
            n-grams before it.
        last_words (`np.ndarray` of shape `(G,)`): the last word of each n-gram.
        log_probs (`np.ndarray` of shape `(G,)`): its log-probability in nats, given the other words.
        backoffs (`np.ndarray` of shape `(G,)`): what a word costs that never followed it, in nats.
        shorter (`np.ndarray` of shape `(G,)`): the longest n-gram that is an end of it.
    """

    start: int
    words: np.ndarray
    unknown: int
    first: np.ndarray
    last_words: np.ndarray
    log_probs: np.ndarray
    backoffs: np.ndarray
    shorter: np.ndarray

    def advance(self, state: int, token: int) -> tuple[float, int]:
        """Returns the log-probability of a token in a state, in nats, and the state behind it."""
        return _follow(self, state, token)


# Has no n-gram: no language model.
_NONE = np.zeros(0, dtype=np.int64)
NO_MODEL = NGramAutomaton(0, _NONE, 0, _NONE, _NONE, np.zeros(0), np.zeros(0), _NONE)


def _follow(model: Any, state: int, token: int) -> tuple[float, int]:
    """See [`NGramAutomaton.advance`]; `model` are its attributes, as they stand there."""
    _, words, unknown, first, last_words, log_probs, backoffs, shorter = model
    word = words[token] if token < len(words) else unknown
    log_prob = 0.0
    while state > 0:
        start, end = first[state], first[state + 1]
        found = start + np.searchsorted(last_words[start:end], word)
        if found < end and last_words[found] == word:
            return log_prob + float(log_probs[found]), int(found)
        log_prob += float(backoffs[state])
        state = int(shorter[state])
    return log_prob + float(log_probs[word]), int(word)


def _advance(model: Any, state: Any, token: int) -> tuple[float, Any]:
    """Asks a language model for a token's log-probability in a state, and the state behind it."""
    return model(state, token)


def _best_labels(scores: np.ndarray, blank: int, number: int, floor: float) -> list[int]:
    """Returns the labels, at most `number`, with the best ones of `scores` `(V,)` above `floor`, best first."""
    found = np.flatnonzero(scores > floor)
    found = found[np.argsort(-scores[found], kind="stable")]
    return [label for label in found.tolist() if label != blank][:number]


def _compiled_best_labels(scores: np.ndarray, blank: int, number: int, floor: float) -> list[int]:
    """`_best_labels` as it is fast when compiled: most blocks have nothing above the floor, which is seen at once."""
    labels = [0] * 0
    level = np.empty(1, scores.dtype)  # the floor as a score: what is compared at once must be of one type
    level[0] = floor
    for start in range(0, len(scores), _BLOCK):
        end, lowest, hits = min(start + _BLOCK, len(scores)), level[0], 0
        for label in range(start, end):
            hits += scores[label] >= lowest
        if hits == 0:
            continue
        for label in range(start, end):
            if scores[label] > floor and label != blank:
                _insert(labels, scores, label, number)
                if len(labels) == number:
                    floor = scores[labels[-1]]
                    level[0] = floor
    return labels


def _log_add(one: float, other: float) -> float:
    """Returns log(exp(one) + exp(other))."""
    if one < other:
        one, other = other, one
    return one if other == -math.inf else one + math.log1p(math.exp(other - one))


def _insert(order: list[int], scores: Any, candidate: int, size: int) -> None:
    """Puts a candidate among the best ones, best first, behind those of its score; at most `size` stay."""
    order.append(candidate)
    place = len(order) - 1
    while place > 0 and scores[order[place - 1]] < scores[candidate]:
        order[place] = order[place - 1]
        place -= 1
    order[place] = candidate
    if len(order) > size:
        order.pop()


def _write(target: np.ndarray, node: int, parents: list[int], labels: list[int], tokens: np.ndarray) -> None:
    """Writes the prefix of a node into `target` `(F,)`."""
    path = [node]
    while path[-1] > 0:
        path.append(parents[path[-1]])
    for index in range(len(path) - 1):
        target[index] = tokens[labels[path[len(path) - 2 - index]]]


def search(
    log_probs: np.ndarray,
    tokens: np.ndarray,
    blank: int,
    eos_token_id: int,
    beam_size: int,
    start: Any,
    model: Any,
    weight: float,
    bonus: float,
    targets: np.ndarray,
    likelihoods: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Searches the frames of a row for the best targets.

    Args:
        log_probs (`np.ndarray` of shape `(F, V)`): log-probabilities at the frames.
        tokens (`np.ndarray` of shape `(V,)`): the token of each column.
        blank (`int`): the column of the blank.
        eos_token_id (`int`): id of EOS, for the language model.
        beam_size (`int`): hypotheses that are kept (W).
        start: the language model's state before the first token.
        model: what `_advance` asks, a function from a state and a token to what [`NGramAutomaton.advance`] returns;
            compiled, the attributes of an [`NGramAutomaton`] as a plain tuple.
        weight (`float`): factor of the language model's log-probabilities; 0 for none.
        bonus (`float`): what a token adds, in nats.
        targets (`np.ndarray` of shape `(W, F)`): gets the targets, best first; nothing behind their tokens, nor where
            targets run out.
        likelihoods (`np.ndarray` of shape `(W,)`): gets their log-likelihoods in nats.
        scores (`np.ndarray` of shape `(W,)`): gets what they are sorted by.
    """
    width = log_probs.shape[1]
    # What a prefix gains by a token at most: a probability is never above 1.
    largest_gain = bonus if weight >= 0 else math.inf
    # The tree of prefixes: each node, the node that it grew from and the label that it added.
    parents, labels, children = [-1], [blank], {-1: 0}
    # The beam, best first: nodes and what belongs to them; and the place of each node in it, -1 for none.
    nodes, states, places = [0], [start], [0]
    after_blank, after_label, totals, gains = [0.0], [-math.inf], [0.0], [0.0]
    for frame in range(len(log_probs)):
        frame_scores = log_probs[frame]
        # Candidates that add no label.
        origins, added = list(range(len(nodes))), [blank for _ in nodes]
        blanks = [total + float(frame_scores[blank]) for total in totals]
        arrived, sums, ranks = list(after_label), list(totals), list(totals)
        next_gains, next_states = list(gains), list(states)
        order, taken = [0] * 0, {-1}
        for place in range(len(nodes)):
            node = nodes[place]
            if node > 0:
                label, shorter = labels[node], places[parents[node]]
                if shorter >= 0:
                    # The strings of a shorter prefix that grows to this one.
                    taken.add(shorter * width + label)
                    repeats = labels[nodes[shorter]] == label
                    arriving = after_blank[shorter] if repeats else totals[shorter]
                    arrived[place] = _log_add(arrived[place], arriving)
                arrived[place] += float(frame_scores[label])
            sums[place] = _log_add(blanks[place], arrived[place])
            ranks[place] = sums[place] + gains[place]
            _insert(order, ranks, place, beam_size)
        # Candidates that add one: one more than can survive, since a label that repeats the last may lose its place.
        floor = -math.inf
        if len(order) == beam_size:
            floor = ranks[order[-1]] - largest_gain - (totals[0] + gains[0])
        for label in _best_labels(frame_scores, blank, beam_size + 1, floor):
            label_score = float(frame_scores[label])
            for place in range(len(nodes)):
                worst = ranks[order[-1]] if len(order) == beam_size else -math.inf
                if totals[place] + gains[place] + label_score + largest_gain <= worst:
                    break  # Hypotheses behind this one are worse.
                # A label that repeats the last one needs a blank between.
                repeats = labels[nodes[place]] == label
                total = (after_blank[place] if repeats else totals[place]) + label_score
                if total == -math.inf or place * width + label in taken:
                    continue
                gain, state = gains[place] + bonus, states[place]
                if weight != 0:
                    log_prob, state = _advance(model, state, int(tokens[label]))
                    gain += weight * log_prob
                if total + gain > worst:
                    origins.append(place)
                    added.append(label)
                    blanks.append(-math.inf)
                    arrived.append(total)
                    sums.append(total)
                    ranks.append(total + gain)
                    next_gains.append(gain)
                    next_states.append(state)
                    _insert(order, ranks, len(origins) - 1, beam_size)
        order = [candidate for candidate in order if sums[candidate] > -math.inf]
        for node in nodes:
            places[node] = -1
        nodes = [nodes[origins[candidate]] for candidate in order]
        for place in range(len(order)):
            label = added[order[place]]
            if label != blank:
                key = nodes[place] * width + label
                if key not in children:
                    children[key] = len(parents)
                    parents.append(nodes[place])
                    labels.append(label)
                    places.append(-1)
                nodes[place] = children[key]
            places[nodes[place]] = place
        after_blank = [blanks[candidate] for candidate in order]
        after_label = [arrived[candidate] for candidate in order]
        totals = [sums[candidate] for candidate in order]
        gains = [next_gains[candidate] for candidate in order]
        states = [next_states[candidate] for candidate in order]
    finals, order = [0.0] * 0, [0] * 0
    for place in range(len(nodes)):
        end = weight * _advance(model, states[place], eos_token_id)[0] if weight != 0 else 0.0
        finals.append(totals[place] + gains[place] + end)
        _insert(order, finals, place, beam_size)
    for rank in range(len(order)):
        place = order[rank]
        likelihoods[rank], scores[rank] = totals[place], finals[place]
        _write(targets[rank], nodes[place], parents, labels, tokens)


@cache
def compiled_search() -> Callable[..., None] | None:
    """Returns `search` as numba compiles it; None where numba is not installed.

    It is compiled here, for single precision, unless numba has kept it from another time.
    """
    try:
        from numba import njit
        from numba.extending import overload, register_jitable
    except ImportError:
        return None
    for helper in (_follow, _log_add, _insert, _compiled_best_labels, _write):
        register_jitable(helper)
    overload(_advance)(lambda model, state, token: lambda model, state, token: _follow(model, state, token))
    overload(_best_labels)(
        lambda scores, blank, number, floor: (
            lambda scores, blank, number, floor: _compiled_best_labels(scores, blank, number, floor)
        )
    )
    nothing = np.zeros((0, 1), dtype=np.float32), _NONE, 0, 0, 1, 0, tuple(NO_MODEL), 0.0, 0.0
    found = np.zeros((1, 1), dtype=np.int64), np.zeros(1), np.zeros(1)
    try:
        compiled = njit(search, cache=True, nogil=True)
        compiled(*nothing, *found)
    except Exception:  # What was kept is damaged, or nothing can be kept here.
        compiled = njit(search, nogil=True)
        compiled(*nothing, *found)
    return compiled
