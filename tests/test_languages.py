"""One language whatever its spelling, and words where no space separates them."""

from __future__ import annotations

import pytest
import sacremoses

import hf_nat.base.languages as languages
from hf_nat.base.languages import Language, find_language, warn_of_unspaced_text


CHINESE = "他买了一部iPhone 15手机。"


@pytest.mark.parametrize(
    ("code", "spellings"),
    [
        ("zh", "zh ZH zho chi cmn cn zh_CN zh-TW zh-Hant-TW zho_Hans cmn_Hant"),
        ("de", "de deu ger de_DE de-AT DE deu_Latn"),
        ("en", "en eng en_XX en_US eng_Latn"),
        ("ja", "ja jpn jp ja_XX jpn_Jpan"),
        ("ko", "ko kor ko_KR kor_Hang"),
        ("th", "th tha tha_Thai th_TH"),
        ("my", "my mya bur mya_Mymr"),
        ("no", "no nb nn nob_Latn nno_Latn"),
        ("lv", "lv lav lvs_Latn"),
        ("uk", "uk ua ukr_Cyrl"),
        ("da", "da dk dan_Latn"),
        ("el", "el gr ell_Grek"),
        ("cs", "cs cz ces_Latn"),
        ("he", "he iw heb_Hebr"),
        ("yue", "yue yue_Hant"),
        ("src", "src SRC"),
    ],
)
def test_a_language_is_the_same_in_every_spelling(code: str, spellings: str) -> None:
    found = [find_language(spelling) for spelling in spellings.split()]
    assert {language.code for language in found} == {code}
    assert len({language.is_spaced for language in found}) == 1
    assert len({language.sacrebleu_tokenizer() for language in found}) == 1
    assert len({language.words for language in found}) == 1


def test_every_other_code_belongs_to_one_language() -> None:
    others = [other for names in languages._OTHER_CODES.values() for other in names.split()]
    assert len(others) == len(set(others)) == len(languages._CODES)
    assert not set(others) & set(languages._OTHER_CODES)


@pytest.mark.parametrize("code", ["", " ", "_XX"])
def test_no_code_is_an_error(code: str) -> None:
    with pytest.raises(ValueError, match=f'must have a code, such as "de", .*got {code!r}'):
        find_language(code)


@pytest.mark.parametrize(
    ("code", "tokenizer"),
    [
        *[(code, "zh") for code in ("zh", "zho_Hans", "yue", "wuu_Hans", "nan_Hant")],
        *[(code, "char") for code in ("th", "tha_Thai", "lo", "khm_Khmr", "my", "bo", "shn_Mymr")],
        *[(code, "13a") for code in ("de", "eng_Latn", "tgt", "zho_Latn", "ja_Latn", "ko_Latn", "nan", "srp_Cyrl")],
        ("ja", "ja-mecab"),
        ("jpn_Jpan", "ja-mecab"),
        ("ko", "ko-mecab"),
        ("kor_Hang", "ko-mecab"),
    ],
)
def test_sacrebleus_tokenizer(code: str, tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    language = find_language(code)
    monkeypatch.setattr(languages, "find_spec", lambda module: module)
    assert language.sacrebleu_tokenizer() == tokenizer
    monkeypatch.setattr(languages, "find_spec", lambda module: module if module == "MeCab" else None)
    assert language.sacrebleu_tokenizer() == ("char" if "mecab" in tokenizer else tokenizer)
    assert language.is_spaced == (tokenizer in ("13a", "ko-mecab"))


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        ("zh", CHINESE, "他 买 了 一 部 iPhone 15 手 机 。"),
        ("ja", "東京タワーは333mです。", "東 京 タ ワ ー は 333m で す 。"),
        ("zh", "他买iPhone，（15）！", "他 买 iPhone ， （ 15 ） ！"),
        ("zh", "约3.5万、U.S.", "约 3.5 万 、 U.S."),
        ("ja", "「OK」ｶﾀｶﾅ・Ａ１", "「 OK 」 ｶ ﾀ ｶ ﾅ ・ Ａ１"),
        ("th", "ผมไม่ไป", "ผ ม ไ ม ่ ไ ป"),
        ("km", "ខ្ញុំ ok", "ខ ្ ញ ុ ំ ok"),
        ("ko_KR", "나는 학교에 갔다.", "나는 학교에 갔다 ."),
        ("deu_Latn", "Das ist z.B. Rot bzw. Blau.", "Das ist z.B. Rot bzw. Blau ."),
        ("zh_Latn", "Nǐ hǎo, Bīng!", "Nǐ hǎo , Bīng !"),
        ("zh", " \t", ""),
    ],
)
def test_words(code: str, text: str, words: str) -> None:
    assert find_language(code).word_tokenizer()(text) == words.split()


def test_a_spaced_language_has_the_tokens_of_moses_also_for_characters_of_other_scripts() -> None:
    text = "The sign says 出口 (exit)."
    assert find_language("en").word_tokenizer()(text) == sacremoses.MosesTokenizer("en").tokenize(text, escape=False)


def test_names_of_words_say_what_they_are() -> None:
    assert find_language("deu_Latn").words.startswith("moses-de-sacremoses-")
    assert find_language("cmn_Hans").words.startswith("char+moses-zh-sacremoses-")


@pytest.mark.parametrize(
    ("code", "text", "warns"),
    [
        ("src", "今天天气很好 in 北京。", True),
        ("en", "ผมไม่ไป", True),
        ("zh", "今天天气很好。", False),
        ("en", "It says 出口.", False),
        ("en", "", False),
    ],
)
def test_unspaced_text_of_a_language_with_spaces_is_warned_of(
    code: str, text: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unspaced_text(find_language(code), [text])
    assert ("mostly in a script without spaces" in caplog.text) == warns


def test_an_unknown_language_is_spaced() -> None:
    assert find_language("x1") == Language("x1") and Language("x1").is_spaced
