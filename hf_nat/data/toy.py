"""A synthetic translation task with explicit modes, so that p(y|x) and every entropy of it are known exactly.

A source sentence is a sequence of distinct words. It is translated word by word in one *mode*, drawn independently of
the sentence: a target language (a lexicon and a word order) and a register (which of two synonyms is used throughout).

The default task sets the trap that distillation takes away. The most probable translation is in language 0, but the
other languages share their word order and their cognates, so that the most probable word of a *position* is often one
of theirs: a model that chooses every word by itself mixes languages however well it is trained.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Translation, Value
from huggingface_hub import DatasetCardData

from ..base.bounds import require_number
from ..base.folders import atomic_contents, check_output_folder
from ..base.utils import read_record, write_json


SOURCE_LANG, TARGET_LANG = "src", "tgt"
DEFAULT_SIZES = {"train": 12_000, "validation": 500, "test": 500}

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
# Languages take endings in turn, so that a reader sees which one a word is from; source words and cognates have none.
_ENDINGS = ("sh", "n", "x", "rt", "ck", "lm")
_MAX_DRAWS = 10_000
# The rows of a split are in memory.
_MOST_ROWS = 10_000_000
_TASK_FILE, _CARD_FILE, _SHARD = "toy_task.json", "README.md", "data/{split}-00000-of-00001.parquet"

# Word orders: source positions in the order in which a sentence of n words is translated.
ORDERS: dict[str, Callable[[int], list[int]]] = {
    "monotone": lambda n: list(range(n)),
    "reversed": lambda n: list(range(n - 1, -1, -1)),
    "swapped": lambda n: [i ^ 1 if i ^ 1 < n else i for i in range(n)],
    "rotated": lambda n: [*range(1, n), 0],
}


@dataclass(frozen=True)
class Mode:
    """One way to translate: a target language and a register, both counted from 0."""

    language: int
    register: int

    def __str__(self) -> str:
        return f"L{self.language}R{self.register}"


@dataclass(frozen=True)
class ToyTask:
    """A synthetic translation task; the same fields give the same task.

    Args:
        num_words (`int`, *optional*, defaults to 60): source words.
        min_length (`int`, *optional*, defaults to 4): words of the shortest source sentence.
        max_length (`int`, *optional*, defaults to 10): words of the longest; lengths are uniform in between.
        zipf_exponent (`float`, *optional*, defaults to 0.5): the r-th word is drawn with weight r^-exponent.
        orders (`tuple[str, ...]`): word order of each target language, a name in `ORDERS`.
        language_probs (`tuple[float, ...]`): probability of each target language.
        register_probs (`tuple[float, ...]`): probability of each register.
        cognate_rate (`float`, *optional*, defaults to 0.3): share of the source words that all languages but the first
            translate alike.
        fertile_rate (`float`, *optional*, defaults to 0.05): share of a language's entries that are two target words,
            so that the modes differ in length.
        synonym_rate (`float`, *optional*, defaults to 0.25): share of a language's entries with a word per register.
        seed (`int`, *optional*, defaults to 1): seed of the lexicon.

    Raises:
        ValueError: if a field is out of range.
    """

    num_words: int = 60
    min_length: int = 4
    max_length: int = 10
    zipf_exponent: float = 0.5
    orders: tuple[str, ...] = ("monotone", "swapped", "swapped")
    language_probs: tuple[float, ...] = (0.48, 0.27, 0.25)
    register_probs: tuple[float, ...] = (0.75, 0.25)
    cognate_rate: float = 0.3
    fertile_rate: float = 0.05
    synonym_rate: float = 0.25
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length <= self.num_words:
            raise ValueError(
                "1 <= `min_length` <= `max_length` <= `num_words` must hold (a sentence has no word twice), got "
                f"{self.min_length}, {self.max_length} and {self.num_words}."
            )
        require_number("zipf_exponent", self.zipf_exponent, least=0, remedy="Use 0 for uniform words.")
        unknown = set(self.orders) - set(ORDERS)
        if unknown:
            raise ValueError(f"`orders` must be of {sorted(ORDERS)}, got {min(unknown)!r}.")
        if len(self.orders) != len(self.language_probs):
            raise ValueError(
                f"`orders` and `language_probs` must have one entry per language, got {len(self.orders)} and "
                f"{len(self.language_probs)}."
            )
        for name in ("language_probs", "register_probs"):
            probs = getattr(self, name)
            if not probs or min(probs) <= 0 or not math.isclose(sum(probs), 1.0):
                raise ValueError(f"`{name}` must be positive and sum to 1, got {probs}.")
        for name in ("cognate_rate", "fertile_rate", "synonym_rate"):
            require_number(name, getattr(self, name), least=0, most=1)

    @classmethod
    def from_json(cls, path: str | Path) -> ToyTask:
        """Rebuilds the task from the `toy_task.json` of a toy corpus; raises ValueError if it is damaged."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in read_record(path).items()
        }
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`{path}` must hold the fields of a toy task: {error}. Make the corpus again."
            ) from error

    def to_json(self, path: str | Path) -> None:
        """Writes the fields of the task, for `from_json`."""
        write_json(path, asdict(self))

    @property
    def source_words(self) -> list[str]:
        """The source words, the most frequent first."""
        return list(self._lexicon)

    @cached_property
    def modes(self) -> list[tuple[Mode, float]]:
        """Every mode with its probability, which does not depend on the sentence."""
        return [
            (Mode(language, register), language_prob * register_prob)
            for language, language_prob in enumerate(self.language_probs)
            for register, register_prob in enumerate(self.register_probs)
        ]

    @cached_property
    def _lexicon(self) -> dict[str, dict[Mode, tuple[str, ...]]]:
        """Source word -> mode -> target words. No target word belongs to two source words."""
        rng = random.Random(self.seed)
        used: set[str] = set()

        def new_word(ending: str = "") -> str:
            stem = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(2))
            while stem + ending in used:
                stem += rng.choice(_CONSONANTS) + rng.choice(_VOWELS)
            used.add(stem + ending)
            return stem + ending

        num_languages, num_registers = len(self.orders), len(self.register_probs)
        lexicon: dict[str, dict[Mode, tuple[str, ...]]] = {}
        for word in [new_word() for _ in range(self.num_words)]:
            is_cognate = rng.random() < self.cognate_rate
            cognate = (new_word(),)
            lexicon[word] = entries = {}
            for language in range(num_languages):
                ending = _ENDINGS[language % len(_ENDINGS)]
                fertility = 2 if rng.random() < self.fertile_rate else 1
                has_synonyms = rng.random() < self.synonym_rate
                forms = [tuple(new_word(ending) for _ in range(fertility)) for _ in range(num_registers)]
                for register in range(num_registers):
                    form = forms[register if has_synonyms else 0]
                    entries[Mode(language, register)] = cognate if is_cognate and language > 0 else form
        return lexicon

    @cached_property
    def _source_of(self) -> dict[str, str]:
        """Target word -> its source word."""
        return {form: word for word, entries in self._lexicon.items() for forms in entries.values() for form in forms}

    def sample_source(self, rng: random.Random) -> str:
        """Draws a source sentence: a uniform length, then words without replacement, in the order they are drawn."""
        length = rng.randint(self.min_length, self.max_length)
        # The first arrivals of independent Poisson processes are a weighted sample without replacement.
        arrivals = {
            word: rng.expovariate(rank**-self.zipf_exponent) for rank, word in enumerate(self._lexicon, start=1)
        }
        return " ".join(sorted(arrivals, key=arrivals.__getitem__)[:length])

    def sample_mode(self, rng: random.Random) -> Mode:
        """Draws a mode."""
        modes, probs = zip(*self.modes, strict=True)
        return rng.choices(modes, probs)[0]

    def translate(self, source: str, mode: Mode) -> str:
        """Translates a sentence of source words in one mode."""
        entries = [self._entry(word) for word in source.split()]
        order = ORDERS[self.orders[mode.language]]
        return " ".join(form for i in order(len(entries)) for form in entries[i][mode])

    def translations(self, source: str) -> dict[str, float]:
        """Returns p(y|x) of every translation of `source`, the most probable first; equal outputs are one."""
        probs: dict[str, float] = defaultdict(float)
        for mode, prob in self.modes:
            probs[self.translate(source, mode)] += prob
        return dict(sorted(probs.items(), key=lambda item: -item[1]))

    def sentence_entropy(self, source: str) -> float:
        """Returns the exact conditional entropy H(Y|X=source) of whole translations, in nats."""
        return _entropy(self.translations(source).values())

    def lexical_distribution(self, word: str) -> dict[str, float]:
        """Returns p(target word | source word): expected link counts, normalised.

        Each target word of a fertile entry is one link.
        """
        links: dict[str, float] = defaultdict(float)
        for mode, prob in self.modes:
            for form in self._entry(word)[mode]:
                links[form] += prob
        total = sum(links.values())
        return {form: count / total for form, count in links.items()}

    def complexity(self) -> float:
        """Returns the true corpus complexity C: the mean over source words of H(target word | source word), in nats.

        Source: Zhou et al. 2020, section 3.2 (arXiv:1911.02727), with the true links in place of an aligner's.
        """
        return sum(_entropy(self.lexical_distribution(word).values()) for word in self._lexicon) / self.num_words

    def align(self, source: str, target: str) -> list[tuple[int, int]]:
        """Links every target word to the source word that it translates in some mode.

        Exact for what the task generates. It also serves for a model's output, in any order and any mixture of modes:
        a word that translates none of the source words stays unlinked. Where the source has a word twice, a target
        word takes the occurrence that it is linked to least so far, then the one nearest in relative position.

        Args:
            source (`str`): source sentence.
            target (`str`): any sentence.

        Returns:
            `list[tuple[int, int]]`: links (source position, target position), in words from 0, in target order.
        """
        source_words, target_words = source.split(), target.split()
        links: list[tuple[int, int]] = []
        uses: Counter[tuple[int, str]] = Counter()
        for j, form in enumerate(target_words):
            candidates = [i for i, word in enumerate(source_words) if word == self._source_of.get(form)]
            if candidates:
                i = min(
                    candidates,
                    key=lambda i: (uses[i, form], abs(i / len(source_words) - j / len(target_words))),
                )
                uses[i, form] += 1
                links.append((i, j))
        return links

    def _entry(self, word: str) -> dict[Mode, tuple[str, ...]]:
        if word not in self._lexicon:
            raise ValueError(f"A source word must be one of the {self.num_words} `source_words`, got {word!r}.")
        return self._lexicon[word]


def generate_toy_corpus(
    output_dir: str | Path,
    task: ToyTask | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    seed: int = 1,
    multi_target: bool = False,
) -> Path:
    """Writes a toy corpus as a folder in Hub layout; the same arguments give the same bytes.

    Rows are `{"id": int, "translation": {"src": str, "tgt": str}, "mode": str}`, each translated in one random mode.
    The source sentences of the held-out splits are all different and none of them is in train.

    Args:
        output_dir (`str` or `Path`): folder to write `data/*.parquet`, `README.md` and `toy_task.json` to; an earlier
            toy corpus there is replaced.
        task (`ToyTask`, *optional*): the task, by default `ToyTask()`.
        sizes (`Mapping[str, int]`, *optional*): sentences of each split, by default `DEFAULT_SIZES`.
        seed (`int`, *optional*, defaults to 1): seed of the sentences and their modes.
        multi_target (`bool`, *optional*, defaults to `False`): give every target language of a sentence, under the
            keys "l0", "l1" ..., all in its register, in place of one.

    Returns:
        `Path`: the folder.

    Raises:
        ValueError: if the folder holds anything else, a size is below 1 or beyond memory, or the task has too few
            source sentences to keep train and held-out splits apart.
    """
    task, output_dir = task or ToyTask(), Path(output_dir)
    sizes = DEFAULT_SIZES if sizes is None else sizes
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"The split `{split}` must have at least 1 sentence, got {size}. Use a larger size.")
        if size > _MOST_ROWS:
            raise ValueError(f"The split `{split}` must have at most {_MOST_ROWS} sentences, got {size}.")
    check_output_folder(output_dir, own=[_CARD_FILE, _TASK_FILE, _SHARD.format(split="*")], mark=_TASK_FILE)
    target_langs = [f"l{language}" for language in range(len(task.orders))] if multi_target else [TARGET_LANG]
    features = Features(
        {"id": Value("int64"), "translation": Translation([SOURCE_LANG, *target_langs]), "mode": Value("string")}
    )
    # The task first, so that what a killed run leaves is known as a toy corpus.
    with atomic_contents(output_dir, [_TASK_FILE, "data", _CARD_FILE]) as folder:
        task.to_json(folder / _TASK_FILE)
        (folder / "data").mkdir()
        for split, rows in _splits(task, sizes, seed, target_langs):
            Dataset.from_list(rows, features=features).to_parquet(folder / _SHARD.format(split=split))
        (folder / _CARD_FILE).write_text(_card(task, sizes, seed, target_langs), encoding="utf-8")
    return output_dir


def _splits(
    task: ToyTask, sizes: Mapping[str, int], seed: int, target_langs: Sequence[str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the rows of each split, train last: it has no source sentence of the others."""
    held_out: set[str] = set()
    for split in sorted(sizes, key=lambda name: name == "train"):
        rng = random.Random(f"{seed} {split}")
        rows = []
        for row in range(sizes[split]):
            source, mode = _sample_unseen(task, rng, held_out), task.sample_mode(rng)
            if split != "train":
                held_out.add(source)
            is_single = list(target_langs) == [TARGET_LANG]
            modes = [mode] if is_single else [Mode(lang, mode.register) for lang in range(len(task.orders))]
            targets = [task.translate(source, own) for own in modes]
            translation = {SOURCE_LANG: source, **dict(zip(target_langs, targets, strict=True))}
            rows.append({"id": row, "translation": translation, "mode": " ".join(map(str, modes))})
        yield split, rows


def is_toy_corpus(folder: str | Path, task: ToyTask) -> bool:
    """Tells whether a folder holds a whole corpus of a task; a killed run leaves no card.

    Args:
        folder (`str` or `Path`): where `generate_toy_corpus` writes.
        task ([`ToyTask`]): the task.

    Raises:
        ValueError: if the task that is recorded there is damaged.
    """
    files = [Path(folder) / name for name in (_CARD_FILE, _TASK_FILE)]
    return all(file.is_file() for file in files) and ToyTask.from_json(files[1]) == task


def _sample_unseen(task: ToyTask, rng: random.Random, held_out: set[str]) -> str:
    for _ in range(_MAX_DRAWS):
        source = task.sample_source(rng)
        if source not in held_out:
            return source
    raise ValueError(
        f"`task` must have more source sentences than the held-out splits, got {_MAX_DRAWS} draws in a row from the "
        f"{len(held_out)} that are taken. Use a larger `num_words` or `max_length`, or smaller `sizes`."
    )


def _card(task: ToyTask, sizes: Mapping[str, int], seed: int, target_langs: Sequence[str]) -> str:
    """Renders the dataset card."""
    metadata = DatasetCardData(
        pretty_name="hf_nat toy corpus",
        license="apache-2.0",
        language=["art"],
        task_categories=["translation"],
        annotations_creators="machine-generated",
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in sizes],
            }
        ],
    )
    modes = "\n".join(
        f"| {mode} | {prob:.3f} | {mode.language} | {task.orders[mode.language]} | {mode.register} |"
        for mode, prob in task.modes
    )
    targets = ", ".join(f"`{lang}`" for lang in target_langs)
    translated = "in one mode" if target_langs == [TARGET_LANG] else "into every language, in one register"
    counts = "\n".join(f"| {split} | {size} |" for split, size in sizes.items())
    return f"""---
{metadata.to_yaml()}
---

# hf_nat toy corpus

A synthetic translation task (`{SOURCE_LANG}` to {targets}) with explicit modes. Every sentence is translated
{translated}, drawn independently of it, so that p(y|x) is known exactly:
`ToyTask.from_json("toy_task.json")` of `hf_nat.data` rebuilds the task.

- Source words: {task.num_words}. Words in a sentence: {task.min_length} to {task.max_length}.
- With one target, true corpus complexity C: {task.complexity():.4f} nats (mean over source words of the entropy of
  their translation).
- Seed of the lexicon: {task.seed}. Seed of the sentences: {seed}.

| mode | probability | language | word order | register |
|---|---|---|---|---|
{modes}

| split | sentences |
|---|---|
{counts}

No source sentence of a held-out split is in train.
"""


def _entropy(probs: Iterable[float]) -> float:
    return -sum(prob * math.log(prob) for prob in probs)
