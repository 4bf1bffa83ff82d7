from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import sacrebleu
import sacremoses

import hf_nat.base.languages as languages
import hf_nat.metrics.translation as translation
from hf_nat.metrics.meteor import METEOR
from hf_nat.metrics.ribes import RIBES
from hf_nat.metrics.translation import DEFAULT_METRICS, PAPER_METRICS, score_translations, training_bleu


HYPOTHESES = ["Das ist ein Hund, der z.B. schläft.", "Zwei Männer laufen über die Straße."]
REFERENCES = ["Das ist ein Hund, der schläft.", "Zwei Männer gehen über die Straße."]


def bleu_by_hand(hypotheses: list[str], references: list[str]) -> float:
    """BLEU as Papineni et al. define it, without smoothing."""
    log_precision = 0.0
    for n in range(1, 5):
        matches = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            pair = hypothesis.split(), reference.split()
            grams = [Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in pair]
            matches += (grams[0] & grams[1]).total()
            total += grams[0].total()
        log_precision += math.log(matches / total) / 4
    lengths = [sum(len(sentence.split()) for sentence in side) for side in (hypotheses, references)]
    return 100 * math.exp(log_precision + min(0.0, 1 - lengths[1] / lengths[0]))


def test_bleu_of_moses_tokens_is_the_textbook_formula():
    tokens = [
        ["Das ist ein Hund , der z.B. schläft .", "Zwei Männer laufen über die Straße ."],
        ["Das ist ein Hund , der schläft .", "Zwei Männer gehen über die Straße ."],
    ]
    score = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=["bleu"])["bleu"]
    assert score.score == pytest.approx(bleu_by_hand(*tokens), abs=1e-9)


def test_bleu_uses_the_rules_of_the_target_language():
    hypotheses, references = ["Rot bzw. Blau ist hier schön"], ["Rot bzw . Blau ist hier schön"]
    scores = {
        lang: score_translations(hypotheses, references, target_lang=lang, metrics=["bleu"])["bleu"].score
        for lang in ("en", "de", "de_AT")
    }
    assert scores["en"] == pytest.approx(100.0), "English rules split the full stop of an unknown abbreviation"
    assert scores["de"] == scores["de_AT"] < 99.0


def test_13a_chrf_and_ter_are_sacrebleus():
    scores = score_translations(HYPOTHESES, REFERENCES, target_lang="de")
    assert scores["sacrebleu"].score == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert scores["chrf"].score == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert scores["ter"].score == sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score


def test_signatures_name_tokens_beta_and_version():
    scores = score_translations(HYPOTHESES, REFERENCES, target_lang="de")
    assert list(scores) == list(DEFAULT_METRICS) == [score.name for score in scores.values()]
    assert scores["bleu"].signature.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:moses-de-sacremoses-")
    assert "|tok:13a|" in scores["sacrebleu"].signature
    assert scores["chrf"].signature.startswith("chrF2|")
    assert scores["ter"].signature.startswith("TER|")
    assert all(f"version:{sacrebleu.__version__}" in score.signature for score in scores.values())


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("a b c d", "a b c d", [100.0, 100.0, 100.0, 0.0]),
        ("a b c d", "e f g h", [0.0, 0.0, 0.0, 100.0]),
        ("", "a b c d", [0.0, 0.0, 0.0, 100.0]),
        ("a", "", [0.0, 0.0, 0.0, 100.0]),
        ("", "", [0.0, 0.0, 0.0, 0.0]),
        (" \t ", "a b c d", [0.0, 0.0, 0.0, 100.0]),
        ("a", "a", [0.0, 0.0, 100.0, 0.0]),
    ],
)
def test_degenerate_sentences_are_defined(hypothesis, reference, expected):
    scores = score_translations([hypothesis], [reference], target_lang="en")
    assert [score.score for score in scores.values()] == pytest.approx(expected)


CHINESE = (
    ["今天天气很好，我们去公园散步。", "他买了一部新的iPhone 15手机。"],
    ["今天天气不错，我们去公园散步。", "他买了一部新iPhone 15手机。"],
)


@pytest.mark.parametrize("lang", ["zh", "zh_CN", "zho_Hans", "cmn", "yue"])
def test_chinese_is_scored_by_characters_in_every_spelling_of_its_code(lang):
    scores = score_translations(*CHINESE, target_lang=lang, metrics=("bleu", "sacrebleu", "ter", "ribes", "chrf"))
    characters = [
        [" ".join(text.replace("iPhone 15", "W1")).replace("W 1", "iPhone 15") for text in s] for s in CHINESE
    ]
    expected = {
        "bleu": sacrebleu.corpus_bleu(characters[0], [characters[1]], tokenize="none").score,
        "sacrebleu": sacrebleu.corpus_bleu(CHINESE[0], [CHINESE[1]], tokenize="zh").score,
        "ter": sacrebleu.corpus_ter(characters[0], [characters[1]]).score,
        "ribes": RIBES().corpus_score(characters[0], [characters[1]]).score,
        "chrf": sacrebleu.corpus_chrf(CHINESE[0], [CHINESE[1]]).score,
    }
    assert {name: score.score for name, score in scores.items()} == pytest.approx(expected)
    assert expected["bleu"] == expected["sacrebleu"] > 70 > 20 > expected["ter"]
    for name in ("bleu", "ter", "ribes"):
        assert f"|tok:char+moses-{'yue' if lang == 'yue' else 'zh'}-sacremoses-" in scores[name].signature
    assert "|tok:zh|" in scores["sacrebleu"].signature


def test_thai_and_japanese_are_scored_by_characters_and_words_of_spaced_languages_stay(monkeypatch):
    monkeypatch.setattr(languages, "find_spec", lambda module: None)
    for lang, text in (("tha_Thai", "ผมไม่ไป"), ("ja", "行きます。")):
        scores = score_translations([text], [text], target_lang=lang)
        assert [round(score.score) for score in scores.values()] == [100, 100, 100, 0]
        assert "|tok:char|" in scores["sacrebleu"].signature and "|tok:char+moses-" in scores["ter"].signature
    assert "|tok:tercom|" in score_translations(["a"], ["a"], target_lang="kor_Hang")["ter"].signature
    assert "|tok:13a|" in score_translations(["a"], ["a"], target_lang="deu_Latn")["sacrebleu"].signature


def test_a_tokenizer_asked_for_takes_the_languages_place():
    options = {"sacrebleu": {"tokenize": "char"}}
    scores = score_translations(*CHINESE, target_lang="zh", metrics=["sacrebleu"], options=options)
    assert "|tok:char|" in scores["sacrebleu"].signature


@pytest.mark.parametrize(("sides", "name"), [(("ab", ["a", "b"]), "hypotheses"), ((["a", "b"], "ab"), "references")])
def test_one_text_is_no_list_of_sentences(sides, name):
    with pytest.raises(ValueError, match=f"`{name}` must be several texts, got the text 'ab'"):
        score_translations(*sides, target_lang="de")


def test_no_sentence_is_an_error():
    with pytest.raises(ValueError, match="`hypotheses` must hold at least 1 sentence, got 0"):
        score_translations([], [], target_lang="de")


def test_unequal_lengths_are_an_error_with_both_counts():
    with pytest.raises(ValueError, match="got 2 and 1"):
        score_translations(["a", "b"], ["a"], target_lang="de")


def test_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match=r"one of \['beer', 'bleu', .*'ter'\], got 'comet'"):
        score_translations(["a"], ["a"], target_lang="de", metrics=["bleu", "comet"])


def test_papers_metrics_have_their_names_and_scales():
    scores = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=PAPER_METRICS)
    assert list(scores) == ["bleu", "meteor", "ribes", "chrf", "ter", "beer"]
    tokens = [
        ["Das ist ein Hund , der z.B. schläft .", "Zwei Männer laufen über die Straße ."],
        ["Das ist ein Hund , der schläft .", "Zwei Männer gehen über die Straße ."],
    ]
    for name, metric in (("meteor", METEOR("de")), ("ribes", RIBES())):
        assert scores[name].score == metric.corpus_score(tokens[0], [tokens[1]]).score > 50
        assert "|tok:moses-de-sacremoses-" in scores[name].signature
    assert scores["meteor"].signature.startswith("METEOR(exact+stem)|nrefs:1|lang:de|")
    assert scores["beer"].score is None


def test_chrf3_is_chrf_of_beta_3():
    score = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=["chrf3"])["chrf3"]
    assert score.score == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], beta=3).score
    assert score.signature.startswith("chrF3|")


def test_chrfpp_counts_words_and_word_pairs_too():
    score = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=["chrfpp"])["chrfpp"]
    assert score.score == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score
    assert score.signature.startswith("chrF2++|") and "|nw:2|" in score.signature
    # The same letters cut into other words: all n-grams of letters match, 1 of 2 words, and no pair.
    joined = score_translations(["a bc d"], ["a b cd"], target_lang="de", metrics=["chrf", "chrfpp"])
    assert joined["chrf"].score == pytest.approx(100)
    # Orders 1 to 4 of letters are perfect, of words 1 in 3 and none in 2; longer n-grams do not exist.
    assert joined["chrfpp"].score == pytest.approx(100 * (4 + 1 / 3) / 6)


def test_each_side_is_tokenised_once_for_all_metrics(monkeypatch):
    calls = []

    class Counting(sacremoses.MosesTokenizer):
        def tokenize(self, sentence, **kwargs):
            calls.append(sentence)
            return super().tokenize(sentence, **kwargs)

    monkeypatch.setattr(sacremoses, "MosesTokenizer", Counting)
    score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=PAPER_METRICS)
    assert sorted(calls) == sorted([*HYPOTHESES, *REFERENCES])


def test_references_are_held_some_at_a_time_and_scores_stay(monkeypatch):
    hypotheses, references = [[*side, *side, side[0]] for side in (HYPOTHESES, REFERENCES)]
    names = ["bleu", "sacrebleu", "chrf", "ter", "ribes"]
    options = {"target_lang": "de", "metrics": names, "segment_scores": True, "num_bootstrap": 40}
    whole = score_translations(hypotheses, references, **options)
    held = []
    cache = translation.Metric._cache_references
    monkeypatch.setattr(
        translation.Metric, "_cache_references", lambda m, sides: held.append(len(sides[0])) or cache(m, sides)
    )
    monkeypatch.setattr(translation, "_HELD", 2)
    assert score_translations(hypotheses, references, **options) == whole
    assert held == [*[2] * len(names) * 2, *[1] * len(names)]


def test_words_are_held_some_at_a_time(monkeypatch):
    held = []
    prepare = translation.PreparedTexts.prepare
    monkeypatch.setattr(
        translation.PreparedTexts,
        "prepare",
        lambda texts, *given: (prepare(texts, *given), held.append(len(texts._tokens)))[0],
    )
    monkeypatch.setattr(translation, "_HELD", 1)
    score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=["bleu", "ribes"])
    assert max(held) == 2


def test_segments_are_the_scores_of_the_sentences_alone():
    metrics = ("bleu", "sacrebleu", "chrf", "chrf3", "chrfpp", "ter", "ribes", "meteor")
    scores = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=metrics, segment_scores=True)
    for k, pair in enumerate(zip(HYPOTHESES, REFERENCES, strict=True)):
        alone = score_translations(*([text] for text in pair), target_lang="de", metrics=metrics)
        for name in set(metrics) - {"bleu", "sacrebleu"}:
            assert scores[name].segments[k] == pytest.approx(alone[name].score)
        assert scores["sacrebleu"].segments[k] == pytest.approx(sacrebleu.sentence_bleu(pair[0], [pair[1]]).score)
    assert score_translations(HYPOTHESES, REFERENCES, target_lang="de")["bleu"].segments is None


def test_bleu_of_a_short_segment_has_effective_order():
    score = score_translations(["Ja", "Ja"], ["Ja", "Nein"], target_lang="de", metrics=["bleu"], segment_scores=True)
    assert score["bleu"].segments == pytest.approx((100.0, 0.0))
    assert score["bleu"].score == 0.0


def test_bootstrap_is_sacrebleus(monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "42")
    hypotheses = [" ".join(f"w{(k * n) % 7}" for k in range(8)) for n in range(1, 13)]
    references = [" ".join(f"w{(k * n) % 5}" for k in range(8)) for n in range(1, 13)]
    result = sacrebleu.CHRF().corpus_score(hypotheses, [references], n_bootstrap=100)
    score = score_translations(hypotheses, references, target_lang="de", metrics=["chrf"], num_bootstrap=100, seed=42)[
        "chrf"
    ]
    low, high = score.interval
    assert (high - low) / 2 == pytest.approx(result._ci)
    assert low < result._mean < high
    assert "|bs:100|seed:42|" in score.signature


def test_interval_cuts_one_fortieth_at_each_end():
    class Sum:
        """Scores a sample by the sum of its statistics."""

        def _compute_score_from_stats(self, stats):
            return sacrebleu.metrics.base.Score("sum", float(stats[0]))

    stats = np.arange(10.0)[:, None]
    rng = np.random.default_rng(1)
    sums = sorted(float(rng.choice(10, size=10).sum()) for _ in range(80))
    assert translation._interval(Sum(), stats, 80, 1) == (sums[2], sums[77])
    assert sums[2] < sums[77]


@pytest.mark.parametrize("num_bootstrap", [-1, 1])
def test_one_bootstrap_sample_is_an_error(num_bootstrap):
    with pytest.raises(ValueError, match=f"`num_bootstrap` must be 0 or >= 2, got {num_bootstrap}"):
        score_translations(["a"], ["a"], target_lang="de", num_bootstrap=num_bootstrap)


def test_options_reach_their_metric():
    options = {"bleu": {"lowercase": True, "max_ngram_order": 8}, "ribes": {"alpha": 0.0}}
    scores = score_translations(
        ["JA nein"], ["ja nein c"], target_lang="de", metrics=["bleu", "ribes"], options=options
    )
    assert "|case:lc|" in scores["bleu"].signature
    assert "|alpha:0.0|" in scores["ribes"].signature


@pytest.mark.parametrize(
    ("metric", "option"), [("bleu", "tokenize"), ("chrf3", "beta"), ("meteor", "language"), ("ter", "tokenise")]
)
def test_an_option_that_a_metric_fixes_or_lacks_is_an_error(metric, option):
    rule = f"`options` must be one of .* of the metric '{metric}', got '{option}'"
    with pytest.raises(ValueError, match=rule):
        score_translations(["a"], ["b"], target_lang="de", metrics=[metric], options={metric: {option: 1}})


@pytest.mark.parametrize(
    ("metric", "options", "rule"),
    [
        ("chrf", None, "`options` must map metrics to their options"),
        ("chrf", {"char_order": "six"}, "of the metric 'chrf' must have values that it takes, got .*'six'"),
        ("chrf", {"char_order": 0}, "must leave it something to compare, got .*: every translation has the score 0"),
        ("bleu", {"smooth_method": "x"}, "must have values that it takes, got .*'x'}: AssertionError"),
        ("sacrebleu", {"tokenize": "klingon"}, "must have values that it takes"),
        ("meteor", {"function_words": 3}, "must have values that it takes"),
        ("ribes", {"alpha": -1}, "`alpha` must be >= 0"),
        ("beer", {"model_dir": 3}, "must have values that it takes"),
    ],
)
def test_values_that_a_metric_cannot_take_are_an_error(metric, options, rule):
    with pytest.raises(ValueError, match=rule):
        score_translations(["a"], ["b"], target_lang="de", metrics=[metric], options={metric: options})


def test_a_tokenizer_that_no_metric_asks_for_is_not_looked_for(caplog):
    score_translations(["a b"], ["a b"], target_lang="ja", metrics=["bleu", "chrf"])
    assert not [record for record in caplog.records if "ja-mecab" in record.message]


def test_options_of_a_metric_not_asked_for_are_an_error():
    with pytest.raises(ValueError, match=r"`options` must name metrics out of \['bleu'\], got 'ribes'"):
        score_translations(["a"], ["a"], target_lang="de", metrics=["bleu"], options={"ribes": {}})


def test_training_bleu_takes_the_real_targets_as_references():
    distilled, real = ["a b c d e"], ["a b c d e f g"]
    score = training_bleu(distilled, real, target_lang="de")
    assert score.name == "bleu"
    assert score.score == pytest.approx(100 * math.exp(1 - 7 / 5))
    assert training_bleu(real, distilled, target_lang="de").score < 75


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("", "a b", [0.0, 0.0, 0.0]),
        ("a b", "", [0.0, 0.0, 0.0]),
        ("", "", [0.0, 0.0, 0.0]),
        ("a", "a", [100.0, 100.0, 100.0]),
        ("a b c", "a b c", [100.0, 100.0, 100.0]),
        ("a b c", "x y z", [0.0, 0.0, 0.0]),
    ],
)
def test_the_papers_other_metrics_are_defined_on_degenerate_sentences(hypothesis, reference, expected):
    metrics = ("chrf3", "ribes", "meteor")
    scores = score_translations([hypothesis], [reference], target_lang="de", metrics=metrics, segment_scores=True)
    assert [score.score for score in scores.values()] == pytest.approx(expected)
    assert [score.segments[0] for score in scores.values()] == pytest.approx(expected)
