from __future__ import annotations

import random
from itertools import product

import pytest
from sacrebleu.metrics.base import Metric

import hf_nat.metrics.meteor_aligner as meteor_aligner
from hf_nat.metrics.meteor import METEOR, PARAMETERS, frequent_words
from hf_nat.metrics.meteor_aligner import SEARCH_WEIGHTS, align_words, count_chunks


# A dictionary in WordNet's format: one synset of car and auto, one of drive and run.
INDEX = {
    "noun": "  1 The licence is indented.\nauto n 1 1 @ 1 0 02958343  \ncar n 2 1 @ 2 1 02958343 02959942  \n",
    "verb": "drive v 1 1 @ 1 0 01930874  \nrun v 1 1 @ 1 0 01930874  \n",
    "adj": "",
    "adv": "",
}


@pytest.fixture
def wordnet_dir(tmp_path):
    for pos, text in INDEX.items():
        (tmp_path / f"index.{pos}").write_text(text, encoding="utf-8")
    (tmp_path / "verb.exc").write_text("drove drive\n", encoding="utf-8")
    return tmp_path


def same_letter(left: str, right: str) -> int | None:
    """Equal words match exactly, words with the same first letter as stems do."""
    return 0 if left == right else 1 if left[0] == right[0] else None


def near_letter(left: str, right: str) -> int | None:
    """As synonyms may: a goes with b and b with c, but not a with c."""
    return 0 if left == right else 2 if abs(ord(left[0]) - ord(right[0])) <= 1 else None


def rank(
    pairs: list[tuple[int, int]], hypothesis: list[str], reference: list[str], same=same_letter
) -> tuple[float, int, int]:
    """What an alignment is judged by, smaller is better; pairs (hypothesis, reference) in the reference's order."""
    worth = sum(SEARCH_WEIGHTS[same(hypothesis[i], reference[j])] for i, j in pairs)
    chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
    return -worth, chunks, sum(abs(i - j) for i, j in pairs)


def best_rank(hypothesis: list[str], reference: list[str], same=same_letter) -> tuple[float, int, int]:
    """Tries every alignment."""
    choices = [
        [None, *(i for i, word in enumerate(hypothesis) if same(word, target) is not None)] for target in reference
    ]
    best = (0.0, 0, 0)
    for chosen in product(*choices):
        used = [i for i in chosen if i is not None]
        if len(set(used)) == len(used):
            pairs = [(i, j) for j, i in enumerate(chosen) if i is not None]
            best = min(best, rank(pairs, hypothesis, reference, same))
    return best


@pytest.mark.parametrize("same", [same_letter, near_letter])
def test_alignment_is_the_best_of_all(same):
    rng = random.Random(0)
    words = ["a", "aa", "b", "bb", "c", "d"]
    chunks = set()
    for _ in range(200):
        hypothesis, reference = ([rng.choice(words) for _ in range(rng.randint(0, 6))] for _ in range(2))
        matches = align_words(hypothesis, reference, same)
        pairs = [(match.hypothesis, match.reference) for match in matches]
        assert all(same(hypothesis[m.hypothesis], reference[m.reference]) == m.stage for m in matches)
        assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
        assert pairs == sorted(pairs, key=lambda pair: pair[1])
        assert rank(pairs, hypothesis, reference, same) == best_rank(hypothesis, reference, same)
        assert count_chunks(matches) == rank(pairs, hypothesis, reference, same)[1]
        chunks.add(count_chunks(matches))
    assert len(chunks) > 3


def exact_rank(hypothesis: list[str], reference: list[str], same=same_letter) -> tuple[float, int, int]:
    """Goes over the reference with every set of used words, none dropped: for more words than `best_rank` can try."""
    states = {(0, -1): (0.0, 0, 0)}
    for j, target in enumerate(reference):
        following: dict[tuple[int, int], tuple[float, int, int]] = {}
        for (used, end), (worth, chunks, distance) in states.items():
            ways = [((used, -1), (worth, chunks, distance))]
            for i, word in enumerate(hypothesis):
                if (stage := same(word, target)) is not None and not used >> i & 1:
                    found = (worth - SEARCH_WEIGHTS[stage], chunks + (i != end), distance + abs(i - j))
                    ways.append(((used | 1 << i, i + 1), found))
            for key, found in ways:
                following[key] = min(found, following.get(key, found))
        states = following
    return min(states.values())


@pytest.mark.parametrize("same", [same_letter, near_letter])
def test_alignment_of_sentences_is_exact(same):
    rng = random.Random(1)
    # Few words often, many seldom, as in text.
    words = [*("the", ",") * 8, *("a", "of") * 4, *(f"{letter}{k}" for letter in "bdgjmpsv" for k in range(4))]
    for _ in range(30):
        reference = [rng.choice(words) for _ in range(rng.randint(8, 12))]
        hypothesis = rng.sample(reference, len(reference) - 2) if rng.random() < 0.5 else reference[::-1]
        hypothesis = [word if rng.random() < 0.8 else rng.choice(words) for word in hypothesis]
        matches = align_words(hypothesis, reference, same)
        pairs = [(match.hypothesis, match.reference) for match in matches]
        assert rank(pairs, hypothesis, reference, same) == exact_rank(hypothesis, reference, same)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "matches", "chunks"),
    [
        ("." * 1000, "." * 999 + "x", 999, 1),
        ("x" + "." * 1000, "." * 1000, 1000, 1),
        ("." * 60, "y" + "." * 58 + "x", 58, 1),
        ("a." * 500, "a." * 400 + "x", 800, 1),
        ("a" * 20 + "b" * 20, "b" * 20 + "a" * 20, 40, 2),
    ],
)
def test_words_repeated_without_end_are_aligned_all_the_same(hypothesis, reference, matches, chunks):
    found = align_words(list(hypothesis), list(reference), same_letter)
    assert (len(found), count_chunks(found)) == (matches, chunks)
    assert len({match.hypothesis for match in found}) == len({match.reference for match in found}) == matches


def test_alignment_with_few_choices_and_steps_keeps_all_matches(monkeypatch):
    monkeypatch.setattr(meteor_aligner, "_MAX_CHOICES", 1)
    monkeypatch.setattr(meteor_aligner, "_MAX_STEPS", 30)
    rng = random.Random(2)
    num_chunks = []
    for _ in range(100):
        hypothesis, reference = ([rng.choice("aab") for _ in range(rng.randint(0, 9))] for _ in range(2))
        matches = align_words(hypothesis, reference, same_letter)
        pairs = [(match.hypothesis, match.reference) for match in matches]
        found, best = (rank(pairs, hypothesis, reference), exact_rank(hypothesis, reference))
        assert found[0] == best[0] and found >= best
        num_chunks.append(found[1] - best[1])
    # Most are the best ones even so.
    assert sorted(num_chunks)[len(num_chunks) // 2] == 0 < max(num_chunks)


def test_alignment_of_one_kept_path_is_greedy_and_wider_beams_find_better_ones():
    hypothesis, reference = ["b", "a", "c", "a", "b"], ["a", "b", "a", "c", "b"]
    found = {}
    for beam_size in (1, 200):
        matches = align_words(hypothesis, reference, same_letter, beam_size)
        found[beam_size] = rank([(m.hypothesis, m.reference) for m in matches], hypothesis, reference)
    assert found[200] == best_rank(hypothesis, reference) < found[1]


def test_beam_below_1_is_an_error():
    with pytest.raises(ValueError, match="`beam_size` must be >= 1, got 0"):
        align_words(["a"], ["b"], same_letter, 0)


def test_german_score_by_hand():
    # Exact: der hund ... die katzen/katze: stem. 4 words against 5, matches der, hund, sieht, katzen~katze.
    metric = METEOR("de")
    score = metric.sentence_score("der hund sieht katzen", ["der hund sieht die katze"]).score
    precision, recall = 3.8 / 4, 3.8 / 5
    f_mean = 1 / (0.05 / precision + 0.95 / recall)
    assert score == pytest.approx(100 * f_mean * (1 - 0.55 * (2 / 4)))


def test_function_words_weigh_less_in_both_lengths_and_matches():
    metric = METEOR("de", function_words=["Der", "die"])
    score = metric.sentence_score("der hund sieht katzen", ["der hund sieht die katze"]).score
    content, function = 0.55, 0.45
    precision = (function + 2 * content + 0.8 * content) / (function + 3 * content)
    recall = (function + 2 * content + 0.8 * content) / (2 * function + 3 * content)
    f_mean = 1 / (0.05 / precision + 0.95 / recall)
    assert score == pytest.approx(100 * f_mean * (1 - 0.55 * (2 / 4)))


def test_corpus_score_comes_from_summed_statistics_without_chunks_of_perfect_segments():
    hypotheses, references = ["a b c", "d e"], ["a b c", "e d"]
    metric = METEOR("de")
    # 5 of 5 words match; the second segment alone has chunks, two of them.
    assert metric.corpus_score(hypotheses, [references]).score == pytest.approx(100 * (1 - 0.55 * 2 / 5))
    assert metric.corpus_score(references, [references]).score == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("", "a b", 0.0),
        ("a b", "", 0.0),
        ("", "", 0.0),
        ("a", "a", 100.0),
        ("a b c", "a b c", 100.0),
        ("a b c", "x y z", 0.0),
        ("Haus", "haus", 0.0),
    ],
)
def test_degenerate_sentences_are_defined(hypothesis, reference, expected):
    assert METEOR("de").sentence_score(hypothesis, [reference]).score == pytest.approx(expected)


def test_case_counts_unless_asked_not_to_and_the_best_reference_wins():
    assert METEOR("de").sentence_score("Ja", ["ja"]).score == 0.0
    assert METEOR("de", lowercase=True).sentence_score("Ja", ["ja"]).score == pytest.approx(100.0)
    for lowercase, case in ((False, "mixed"), (True, "lc")):
        metric = METEOR("de", lowercase=lowercase)
        metric.corpus_score(["a"], [["a"]])
        assert f"|case:{case}|" in metric.get_signature().format()
    assert METEOR("de").sentence_score("a b c", ["x", "a b c", "a"]).score == pytest.approx(100.0)


def test_czech_is_not_stemmed_and_says_so():
    assert METEOR("cs").sentence_score("psi", ["psa"]).name == "METEOR(exact)"
    assert METEOR("de").sentence_score("hunde", ["hund"]).name == "METEOR(exact+stem)"
    assert METEOR("de").sentence_score("hunde", ["hund"]).score == pytest.approx(80.0)


def test_synonyms_come_from_wordnet_files_with_inflections(wordnet_dir):
    metric = METEOR("en", wordnet_dir=wordnet_dir)
    result = metric.sentence_score("he drove autos", ["he runs cars"])
    assert result.name == "METEOR(exact+stem+synonyms)"
    # All match: one exact, two synonyms of weight 0.8, in one chunk.
    assert result.score == pytest.approx(100 * (1 + 0.8 + 0.8) / 3)
    assert METEOR("en").sentence_score("he drove autos", ["he runs cars"]).score < 50
    assert "|match:exact+stem+synonyms|" in metric.get_signature().format()


def test_broken_or_missing_wordnet_file_is_an_error(wordnet_dir):
    (wordnet_dir / "index.adv").write_text("fast r 1 1 ! 1 0 notanoffset\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"index.adv, line 1, must end in its synset offsets, got 'fast r"):
        METEOR("en", wordnet_dir=wordnet_dir)
    (wordnet_dir / "index.adv").unlink()
    with pytest.raises(ValueError, match=r"must hold WordNet's file index.adv, got the folder"):
        METEOR("en", wordnet_dir=wordnet_dir)


def test_synonyms_of_another_language_are_an_error(wordnet_dir):
    with pytest.raises(ValueError, match="`wordnet_dir` must be None unless `language` is 'en', got 'de'"):
        METEOR("de", wordnet_dir=wordnet_dir)


@pytest.mark.parametrize(("code", "language"), [("deu_Latn", "de"), ("nob", "no"), ("ces", "cs")])
def test_language_is_known_in_every_spelling(code, language):
    assert METEOR(code).language == language


def test_language_without_parameters_is_an_error():
    with pytest.raises(ValueError, match=r"`language` must be one that METEOR 1.5 has parameters for.*got 'zh'"):
        METEOR("zh")


@pytest.mark.parametrize("language", PARAMETERS)
def test_every_language_has_its_stemmer_and_scores_a_copy_100(language):
    assert METEOR(f"{language}_XX").language == language
    metric = METEOR(language)
    assert metric.sentence_score("eins zwei", ["eins zwei"]).score == pytest.approx(100.0)
    assert metric.sentence_score("eins", ["zwei"]).score == 0.0


def test_is_a_sacrebleu_metric_whose_signature_states_everything():
    metric = METEOR("de", function_words=["der", "die"])
    metric.corpus_score(["a"], [["a"]])
    assert isinstance(metric, Metric)
    signature = metric.get_signature().format()
    assert "|match:exact+stem|stem:snowball-german-" in signature
    assert "|weights:1.0+0.8|task:rank|alpha:0.95|beta:1.0|gamma:0.55|delta:0.55|func:2-" in signature
    other = METEOR("de", function_words=["der", "das"])
    other.corpus_score(["a"], [["a"]])
    assert other.get_signature().format() != signature
    plain = METEOR("de")
    plain.corpus_score(["a"], [["a"]])
    assert "|func:none|" in plain.get_signature().format()


def test_frequent_words_exceed_the_threshold():
    sentences = ["Der a b c", "der d e f", "x y"]
    assert frequent_words(sentences, threshold=0.1) == {"der"}
    assert frequent_words(sentences, threshold=0.2) == set()
    assert "x" in frequent_words(sentences)


@pytest.mark.parametrize(("threshold", "sentences"), [(1.0, ["a"]), (-0.1, ["a"]), (0.1, ["", " "])])
def test_frequent_words_of_nothing_or_a_bad_threshold_are_errors(threshold, sentences):
    with pytest.raises(ValueError, match=rf"got {threshold}|must hold at least 1 word, got 0"):
        frequent_words(sentences, threshold)
