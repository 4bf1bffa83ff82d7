"""Terms stand in the output whole, whatever the model would rather write."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import pytest
import torch
from nat_model_tester import (
    EOS,
    MASK,
    MODEL_TYPES,
    PAD,
    SOURCES,
    UNK,
    VOCAB_SIZE,
    assert_translations,
    pad_rows,
    tiny_model,
)

from hf_nat.models import ARCHITECTURES, modeling_cmlm, modeling_levenshtein_transformer
from hf_nat.models.terms import glued_to_terms, place_terms, term_canvas


HOLDERS = [name for name in MODEL_TYPES if ARCHITECTURES[name][1].holds_terms]
INPUT_IDS = pad_rows(SOURCES, PAD)
TERMS = [[[7, 7], [7, 7, 8]], [], [[20, 21, 22]], [[9]]]


def contents(sequences: torch.Tensor) -> list[list[int]]:
    return [row[: row.index(EOS)] for row in sequences.tolist()]


def places(content: list[int], term: list[int]) -> list[int]:
    return [i for i in range(len(content)) if content[i : i + len(term)] == term]


def assert_holds(
    content: list[int], terms: list[list[int]], in_order: bool, continuations: frozenset[int] = frozenset()
) -> None:
    """Finds places side by side for all terms, each a place of its own, by enumeration; none of a term goes on."""
    for choice in itertools.product(*(places(content, term) for term in terms)):
        taken = [range(start, start + len(term)) for start, term in zip(choice, terms, strict=True)]
        cells = [cell for cells in taken for cell in cells]
        behind = {own.stop for own in taken} - set(choice)
        goes_on = any(content[place] in continuations for place in behind if place < len(content))
        if len(set(cells)) == len(cells) and not goes_on and (not in_order or list(choice) == sorted(choice)):
            return
    raise AssertionError(f"{terms} are not in {content}")


def test_models_that_hold_terms():
    assert HOLDERS == ["cmlm", "levenshtein_transformer"]


@pytest.mark.parametrize("name", HOLDERS)
@pytest.mark.parametrize("seed", range(3))
def test_every_term_is_in_the_output_whole(name, seed):
    model, chance = tiny_model(name, seed=seed), random.Random(seed)
    lists = [TERMS]
    for _ in range(2):
        rows = [[[chance.randrange(5, VOCAB_SIZE) for _ in range(chance.randint(1, 4))] for _ in range(3)]]
        lists.append([rows[0][: chance.randint(0, 3)] for _ in SOURCES])
    for terms in lists:
        for knobs in ({}, {"collapse_repeats": True}, {"max_iterations": 1}):
            output = model.generate(INPUT_IDS, terms=terms, **{"max_iterations": 4, **knobs})
            assert_translations(output)
            for content, own in zip(contents(output), terms, strict=True):
                assert_holds(content, own, in_order=name == "levenshtein_transformer")


@pytest.mark.parametrize("name", HOLDERS)
@pytest.mark.parametrize("with_short_list", [False, True])
def test_nothing_goes_on_with_a_term(name, with_short_list):
    chance, text, glued = random.Random(0), range(5, VOCAB_SIZE), 0
    for seed in range(8):
        model = (
            tiny_model(name, seed=seed, correction_ratio=0.5)
            if name == "cmlm" and seed % 2
            else tiny_model(name, seed)
        )
        going_on = frozenset(chance.sample(text, 12))
        beginnings = [token for token in text if token not in going_on]
        terms = [
            [[chance.choice(beginnings), *chance.choices(text, k=chance.randint(0, 2))] for _ in range(number)]
            for number in (2, 0, 1, 3)
        ]
        options = {"short_list": lambda source: torch.arange(5, VOCAB_SIZE)} if with_short_list else {}
        marks = torch.tensor([token in going_on for token in range(VOCAB_SIZE)])
        for knobs in ({}, {"collapse_repeats": True}, {"max_iterations": 1}):
            options |= {"terms": terms, "max_iterations": 4, **knobs}
            output = model.generate(INPUT_IDS, continuations=marks, **options)
            assert_translations(output)
            for content, own in zip(contents(output), terms, strict=True):
                assert_holds(content, own, name == "levenshtein_transformer", going_on)
            for content, own in zip(contents(model.generate(INPUT_IDS, **options)), terms, strict=True):
                try:
                    assert_holds(content, own, name == "levenshtein_transformer", going_on)
                except AssertionError:
                    glued += 1
    assert glued, "without the marks something does"


@pytest.mark.parametrize("seed", range(20))
def test_what_would_be_glued_to_a_term_is_found_one_by_one(seed):
    chance = random.Random(seed)
    going_on = {5, 6}
    rows = [
        [(chance.randint(5, 8), chance.choice((0, 0, 1, 2)), chance.random() < 0.5) for _ in range(9)] for _ in "ab"
    ]
    tokens, marks, kept = (torch.tensor([[cell[part] for cell in row] for row in rows]) for part in range(3))
    kept |= marks.gt(0)
    found = glued_to_terms(tokens, marks, kept, torch.tensor([token in going_on for token in range(9)]))
    for row in range(2):
        left = [place for place in range(9) if kept[row, place]]
        while wrong := [
            place
            for before, place in itertools.pairwise(left)
            if marks[row, before] and not marks[row, place] and int(tokens[row, place]) in going_on
        ]:
            left.remove(wrong[0])
        assert [place for place in range(9) if kept[row, place] and not found[row, place]] == left


def test_a_repeat_that_collapses_leaves_nothing_glued_to_its_term():
    model = tiny_model("cmlm")
    state = SimpleNamespace(
        tokens=torch.tensor([[7, 7, 8, 9, 9, EOS]]),
        scores=torch.zeros(1, 6),
        terms=torch.tensor([[1, 0, 0, 0, 0, 0]]),
        continuations=torch.arange(VOCAB_SIZE).eq(8),
    )
    assert model._written(state, collapse=True)[0].tolist() == [[7, 9, EOS, PAD, PAD, PAD]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"continuations": torch.zeros(VOCAB_SIZE).bool()}, "`continuations` must come with `terms`, got them alone"),
        ({"terms": TERMS, "continuations": torch.zeros(VOCAB_SIZE)}, r"must be a `torch.BoolTensor` of shape \(24,\)"),
        ({"terms": TERMS, "continuations": torch.zeros(3).bool()}, r"must be a `torch.BoolTensor` of shape \(24,\)"),
    ],
)
def test_marks_that_fit_no_terms_are_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_model("cmlm").generate(INPUT_IDS, **options)


@pytest.mark.parametrize("name", HOLDERS)
def test_a_sentence_does_not_depend_on_its_batch_nor_on_terms_of_others(name):
    model = tiny_model(name, seed=1)
    output = contents(model.generate(INPUT_IDS, terms=TERMS, max_iterations=4))
    for row, source in enumerate(SOURCES):
        alone = model.generate(torch.tensor([source]), terms=[TERMS[row]], max_iterations=4)
        assert contents(alone) == [output[row]]
    free = model.generate(INPUT_IDS, max_iterations=4)
    assert contents(free)[1] == output[1]
    assert model.generate(INPUT_IDS, terms=[[]] * 4, max_iterations=4).tolist() == free.tolist()


@pytest.mark.parametrize("name", HOLDERS)
def test_candidates_and_ensembles_hold_terms(name):
    model, other = tiny_model(name), tiny_model(name, seed=5)
    (knob,) = model.candidate_knobs
    output = model.generate(
        INPUT_IDS, terms=TERMS, max_iterations=3, ensemble=[other], return_history=True, **{knob: 3}
    )
    for content, own, history in zip(contents(output.sequences), TERMS, output.history, strict=True):
        assert_holds(content, own, in_order=name == "levenshtein_transformer")
        for canvas in history:
            assert_holds(canvas.tolist(), own, in_order=name == "levenshtein_transformer")
    held = [sum(map(len, own)) for own in TERMS]
    assert all(row.eq(0).sum() >= count for row, count in zip(output.token_scores, held, strict=True))


@pytest.mark.parametrize("name", HOLDERS)
def test_candidates_are_compared_by_what_stands_beside_their_terms(name):
    model = tiny_model(name)
    (knob,) = model.candidate_knobs
    options = {knob: 3, "num_return_sequences": 3, "max_iterations": 3, "return_dict_in_generate": True}
    terms = [*TERMS[:3], [[9, 10, 11, 12, 13, 14, 15, 16]]]
    output = model.generate(INPUT_IDS, terms=terms, **options)
    alone = 0
    for row, own in enumerate(terms):
        held, means = sum(map(len, own)), []
        for candidate in range(3 * row, 3 * row + 3):
            (content,) = contents(output.sequences[candidate : candidate + 1])
            free, total = len(content) - held, output.token_scores[candidate].sum().item()
            means.append(total / max(len(content), 1) if not held else total / free if free else float("-inf"))
            alone += bool(held) and not free
        assert means == sorted(means, reverse=True)
    assert alone or name != "cmlm", "a candidate of terms alone should be among them"


@pytest.mark.parametrize("name", HOLDERS)
def test_terms_longer_than_any_output_make_it_longer(name):
    model = tiny_model(name)
    long = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15, 16, 17, 18, 19, 20, 21]]
    (content,) = contents(model.generate(torch.tensor([[EOS]]), terms=[long], max_iterations=3))
    assert_holds(content, long, in_order=True)


def test_heads_that_would_delete_and_insert_everywhere_leave_terms_alone(monkeypatch):
    model = tiny_model("levenshtein_transformer", num_placeholder_bins=6)

    def head_logits(state, _states, head):
        if head == "word":
            return (
                torch.nn.functional.one_hot(torch.full_like(state.tokens[state.tokens == MASK], 6), VOCAB_SIZE) * 9.0
            )
        choice = torch.ones_like(state.tokens)
        return torch.nn.functional.one_hot(choice, {"deletion": 2, "placeholder": 6}[head]) * 9.0

    monkeypatch.setattr(model, "head_logits", head_logits)
    output = model.generate(INPUT_IDS[:1], terms=[[[7, 8, 9], [8, 8]]], max_iterations=4, return_history=True)
    canvases = [canvas.tolist() for canvas in output.history[0]]
    # Each round deletes what the last one wrote, and inserts one token into each slot but those inside terms.
    assert canvases[:4] == [
        [7, 8, 9, 8, 8, EOS],
        [7, 8, 9, 8, 8, EOS],
        [MASK, 7, 8, 9, MASK, 8, 8, MASK, EOS],
        [6, 7, 8, 9, 6, 8, 8, 6, EOS],
    ]
    assert canvases[4] == canvases[0] and canvases[-1] == canvases[3]


@pytest.mark.parametrize("name", HOLDERS)
def test_repeats_around_a_term_collapse_and_those_in_it_do_not(name, monkeypatch):
    model = tiny_model(name)
    monkeypatch.setattr(
        modeling_levenshtein_transformer,
        "write_words",
        lambda logits, selected, tokens, scores, *_: (tokens.masked_fill(selected, 7), scores),
    )
    monkeypatch.setattr(
        modeling_cmlm,
        "best_tokens",
        lambda state, hidden_states, forbidden: (
            torch.full(hidden_states[0].shape[:1], 7),
            torch.zeros(hidden_states[0].shape[:1]),
        ),
    )
    terms = [[[7, 7, 9, 9]], [], [], []]
    content = contents(model.generate(INPUT_IDS, terms=terms, collapse_repeats=True, max_iterations=2))
    assert_holds(content[0], terms[0], in_order=True)
    assert all(row in ([], [7]) for row in content[1:])
    rest = content[0][places(content[0], terms[0][0])[0] + 4 :]
    assert rest in ([], [7])


@pytest.mark.parametrize("seed", range(20))
def test_terms_stand_where_they_are_most_probable(seed):
    """Against all ways to put them side by side in one order."""
    generator, chance = torch.Generator().manual_seed(seed), random.Random(seed)
    num_positions = chance.randint(4, 8)
    log_probs = torch.randn(num_positions, 10, generator=generator).log_softmax(dim=1)
    terms = []
    while sum(map(len, terms)) < num_positions and len(terms) < 3:
        room = num_positions - sum(map(len, terms))
        terms.append([chance.randrange(10) for _ in range(chance.randint(1, min(3, room)))])

    def score(term: list[int], start: int) -> float:
        return sum(float(log_probs[start + i, token]) for i, token in enumerate(term))

    def best_place(term: list[int]) -> int:
        return max(range(num_positions - len(term) + 1), key=lambda start: score(term, start))

    order = sorted(range(len(terms)), key=lambda k: best_place(terms[k]))
    best = float("-inf")
    for choice in itertools.product(range(num_positions), repeat=len(terms)):
        ends = [start + len(terms[k]) for start, k in zip(choice, order, strict=True)]
        if ends[-1] <= num_positions and all(end <= start for end, start in zip(ends, choice[1:], strict=False)):
            best = max(best, sum(score(terms[k], start) for start, k in zip(choice, order, strict=True)))
    starts = place_terms(log_probs, terms)
    assert sum(score(term, start) for term, start in zip(terms, starts, strict=True)) == pytest.approx(best, abs=1e-4)
    assert [k for _, k in sorted(zip(starts, range(len(terms)), strict=True))] == order


def test_an_impossible_term_finds_its_place():
    log_probs = torch.full((3, 6), float("-inf"))
    assert sorted(place_terms(log_probs, [[1], [2, 3]])) in ([0, 1], [0, 2])


def test_canvas_of_terms():
    tokens, marks = term_canvas([[[7, 8], [9]], []], EOS, PAD, torch.device("cpu"))
    assert tokens.tolist() == [[7, 8, 9, EOS], [EOS, PAD, PAD, PAD]]
    assert marks.tolist() == [[1, 2, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([[]], "`terms` must be as many as the 4 sentences, got 1"),
        ([[[]], [], [], []], r"must be tokens out of the 24 of the vocabulary.*got \[\]"),
        ([[[5, EOS]], [], [], []], r"special ones .* left out, got \[5, 2\]"),
        ([[[5, MASK]], [], [], []], r"got \[5, 4\]"),
        ([[[24]], [], [], []], r"got \[24\]"),
        ([[[-1]], [], [], []], r"got \[-1\]"),
        ([[], [], [[5] * 20, [6] * 20], []], "must be at most 30 tokens, got 40"),
    ],
)
@pytest.mark.parametrize("name", HOLDERS)
def test_terms_that_cannot_stand_are_an_error(name, terms, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(name).generate(INPUT_IDS, terms=terms)


@pytest.mark.parametrize("name", sorted(set(MODEL_TYPES) - set(HOLDERS)))
def test_other_models_refuse_terms(name):
    with pytest.raises(ValueError, match="`terms` must be left out for a .*, which cannot hold tokens"):
        tiny_model(name).generate(INPUT_IDS, terms=[[[UNK]], [], [], []])
