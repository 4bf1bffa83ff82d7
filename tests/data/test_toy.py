from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter, defaultdict

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from hf_nat.data import Mode, ToyTask, generate_toy_corpus, load_corpus
from hf_nat.data.toy import ORDERS
from hf_nat_cli import main


TASK = ToyTask()
# Every order, three registers and much fertility, for the tests that must hold for any task.
RICH = ToyTask(
    num_words=20,
    min_length=1,
    max_length=6,
    orders=tuple(sorted(ORDERS)),
    language_probs=(0.4, 0.3, 0.2, 0.1),
    register_probs=(0.5, 0.3, 0.2),
    fertile_rate=0.5,
    synonym_rate=0.5,
)
PLAIN = {"cognate_rate": 0, "fertile_rate": 0, "synonym_rate": 0}


def entropy(*probs):
    return -sum(prob * math.log(prob) for prob in probs)


def sources(task, count, seed=0):
    rng = random.Random(seed)
    return [task.sample_source(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("order", "n", "positions"),
    [
        ("monotone", 4, [0, 1, 2, 3]),
        ("reversed", 4, [3, 2, 1, 0]),
        ("rotated", 4, [1, 2, 3, 0]),
        ("swapped", 4, [1, 0, 3, 2]),
        ("swapped", 5, [1, 0, 3, 2, 4]),
    ],
)
def test_word_orders(order, n, positions):
    assert ORDERS[order](n) == positions
    assert ORDERS[order](1) == [0]
    task = ToyTask(orders=(order,), language_probs=(1.0,))
    words, mode = task.source_words[:n], Mode(0, 1)
    expected = " ".join(task.translate(words[i], mode) for i in positions)
    assert task.translate(" ".join(words), mode) == expected


def test_modes_have_the_product_of_the_probabilities():
    assert dict(TASK.modes)[Mode(1, 1)] == pytest.approx(0.27 * 0.25)
    for task in (TASK, RICH):
        assert sum(prob for _, prob in task.modes) == pytest.approx(1)
        assert len({str(mode) for mode, _ in task.modes}) == len(task.language_probs) * len(task.register_probs)


def test_the_lexicon_has_every_ambiguity_and_no_target_word_of_two_source_words():
    for task in (TASK, RICH):
        owners = defaultdict(set)
        for word in task.source_words:
            for mode, _ in task.modes:
                for form in task.translate(word, mode).split():
                    owners[form].add(word)
        assert all(len(words) == 1 for words in owners.values())
        assert not set(owners) & set(task.source_words)
        entries = [{mode: task.translate(word, mode) for mode, _ in task.modes} for word in task.source_words]
        assert any(entry[Mode(1, 0)] == entry[Mode(2, 0)] for entry in entries)
        assert any(entry[Mode(0, 0)] != entry[Mode(0, 1)] for entry in entries)
        assert any(" " in entry[Mode(0, 0)] for entry in entries)


@pytest.mark.parametrize("task", [TASK, RICH], ids=["default", "rich"])
def test_translations_are_the_frequencies_of_sampled_modes(task):
    source, rng, draws = sources(task, 1, seed=4)[0], random.Random(1), 20_000
    counts = Counter(task.translate(source, task.sample_mode(rng)) for _ in range(draws))
    probs = task.translations(source)
    assert set(counts) == set(probs)
    assert sum(probs.values()) == pytest.approx(1)
    assert list(probs.values()) == sorted(probs.values(), reverse=True)
    for target, prob in probs.items():
        assert counts[target] / draws == pytest.approx(prob, abs=5 * math.sqrt(prob * (1 - prob) / draws))
    assert task.sentence_entropy(source) == pytest.approx(entropy(*(n / draws for n in counts.values())), abs=0.02)


@pytest.mark.parametrize(
    ("fields", "word_entropy", "sentence_entropy"),
    [
        # One word per language.
        ({}, entropy(0.48, 0.27, 0.25), entropy(0.48, 0.27, 0.25)),
        # One word per language and register; the register is chosen once per sentence, not once per word.
        (
            {"synonym_rate": 1},
            entropy(0.48, 0.27, 0.25) + entropy(0.75, 0.25),
            entropy(0.48, 0.27, 0.25) + entropy(0.75, 0.25),
        ),
        # Languages 1 and 2 agree on every word and have the same order.
        ({"cognate_rate": 1}, entropy(0.48, 0.52), entropy(0.48, 0.52)),
        # Two links in every mode.
        ({"fertile_rate": 1}, entropy(0.48, 0.27, 0.25) + math.log(2), entropy(0.48, 0.27, 0.25)),
        # Two links in language 0, one in the others.
        (
            {"fertile_rate": 1, "cognate_rate": 1},
            entropy(0.48 / 1.48, 0.48 / 1.48, 0.52 / 1.48),
            entropy(0.48, 0.52),
        ),
        # No ambiguity at all.
        ({"orders": ("reversed",), "language_probs": (1.0,)}, 0, 0),
    ],
)
def test_entropies_in_closed_form(fields, word_entropy, sentence_entropy):
    task = ToyTask(**{**PLAIN, **fields})
    assert task.complexity() == pytest.approx(word_entropy)
    for source in sources(task, 3):
        assert task.sentence_entropy(source) == pytest.approx(sentence_entropy)


@pytest.mark.parametrize("task", [TASK, RICH], ids=["default", "rich"])
def test_complexity_is_that_of_the_gold_links_of_a_large_corpus(task):
    rng = random.Random(2)
    links = defaultdict(Counter)
    for _ in range(20_000):
        source = task.sample_source(rng)
        target = task.translate(source, task.sample_mode(rng))
        source_words, target_words = source.split(), target.split()
        for i, j in task.align(source, target):
            links[source_words[i]][target_words[j]] += 1
    entropies = []
    for word in task.source_words:
        total = links[word].total()
        observed = {form: count / total for form, count in links[word].items()}
        expected = task.lexical_distribution(word)
        assert observed == pytest.approx(expected, abs=0.06)
        entropies.append(entropy(*observed.values()))
    assert sum(entropies) / len(entropies) == pytest.approx(task.complexity(), abs=0.01)


@pytest.mark.parametrize("task", [TASK, RICH], ids=["default", "rich"])
def test_align_is_exact_on_every_translation(task):
    for source in sources(task, 50):
        words = source.split()
        for mode, _ in task.modes:
            gold: list[tuple[int, int]] = []
            for i in ORDERS[task.orders[mode.language]](len(words)):
                gold += [(i, len(gold) + k) for k in range(len(task.translate(words[i], mode).split()))]
            assert task.align(source, task.translate(source, mode)) == gold


def test_align_of_a_model_output():
    words = TASK.source_words[:3]
    first = [TASK.translate(word, Mode(0, 0)).split()[0] for word in words]
    second = [TASK.translate(word, Mode(1, 0)).split()[0] for word in words]
    source = " ".join(words)
    # Two languages mixed, one source word twice, words of no source word of the sentence.
    foreign = TASK.translate(TASK.source_words[5], Mode(0, 0)).split()[0]
    target = [second[2], first[2], "nonsense", foreign, words[0], first[0]]
    assert TASK.align(source, " ".join(target)) == [(2, 0), (2, 1), (0, 5)]
    assert TASK.align(source, "") == TASK.align("", " ".join(target)) == []


def test_align_shares_a_word_out_among_the_occurrences_of_its_source():
    word, other = TASK.source_words[:2]
    form = TASK.translate(word, Mode(0, 0)).split()[0]
    source = f"{word} {other} {word}"
    assert TASK.align(source, f"{form} {form}") == [(0, 0), (2, 1)]
    assert TASK.align(source, f"x y {form} {form}") == [(2, 2), (0, 3)]
    assert sorted(TASK.align(source, f"{form} {form} {form} {form}")) == [(0, 0), (0, 3), (2, 1), (2, 2)]


def test_sources_have_distinct_words_and_uniform_lengths():
    drawn = [source.split() for source in sources(TASK, 7000)]
    assert all(len(set(words)) == len(words) for words in drawn)
    lengths = Counter(map(len, drawn))
    assert sorted(lengths) == list(range(4, 11))
    assert all(count == pytest.approx(1000, abs=150) for count in lengths.values())


@pytest.mark.parametrize("exponent", [0, 1])
def test_the_first_word_follows_zipf(exponent):
    task = ToyTask(num_words=5, max_length=5, zipf_exponent=exponent)
    counts = Counter(source.split()[0] for source in sources(task, 10_000))
    weights = [rank**-exponent for rank in range(1, 6)]
    for word, weight in zip(task.source_words, weights, strict=True):
        assert counts[word] / 10_000 == pytest.approx(weight / sum(weights), abs=0.02)


def positionwise_argmax(task, source):
    """What the best model of independent positions answers: the most probable length, then word by word."""
    translations = [(target.split(), prob) for target, prob in task.translations(source).items()]
    lengths: Counter = Counter()
    for words, prob in translations:
        lengths[len(words)] += prob
    (length, _), *_ = lengths.most_common(1)
    output = []
    for position in range(length):
        marginal: Counter = Counter()
        for words, prob in translations:
            if len(words) == length:
                marginal[words[position]] += prob
        output.append(marginal.most_common(1)[0][0])
    return " ".join(output)


def test_the_default_task_is_a_trap_for_independent_positions():
    drawn = sources(TASK, 300)
    best, outputs, valid = [], [], 0
    for source in drawn:
        translations = TASK.translations(source)
        first, second, *_ = translations.values()
        assert first > 1.05 * second
        best.append(next(iter(translations)))
        outputs.append(positionwise_argmax(TASK, source))
        valid += outputs[-1] in translations
    language_0 = [TASK.translate(source, Mode(0, 0)) for source in drawn]
    assert sum(a == b for a, b in zip(best, language_0, strict=True)) > 0.98 * len(drawn)
    assert sum(a == b for a, b in zip(best, outputs, strict=True)) < 0.3 * len(drawn)
    assert valid < 0.6 * len(drawn)
    # Not with one mode only, which is what distillation leaves.
    single = dataclasses.replace(TASK, orders=("monotone",), language_probs=(1.0,), register_probs=(1.0,))
    assert all(positionwise_argmax(single, source) in single.translations(source) for source in sources(single, 20))


def test_equal_fields_give_an_equal_task_and_another_seed_another():
    words = " ".join(TASK.source_words)
    assert ToyTask().translate(words, Mode(2, 1)) == TASK.translate(words, Mode(2, 1))
    assert ToyTask(seed=2).source_words != TASK.source_words


def test_unknown_source_word_is_an_error():
    for call in (lambda: TASK.translate("qqq", Mode(0, 0)), lambda: TASK.lexical_distribution("qqq")):
        with pytest.raises(ValueError, match="must be one of the 60 `source_words`, got 'qqq'"):
            call()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 61}, "a sentence has no word twice.*got 4, 61 and 60"),
        ({"min_length": 0}, "got 0, 10 and 60"),
        ({"min_length": 11}, "got 11, 10 and 60"),
        ({"zipf_exponent": -1}, "`zipf_exponent` must be >= 0, got -1"),
        ({"orders": ("monotone", "sideways", "swapped")}, r"`orders` must be of \['monotone'.*got 'sideways'"),
        ({"orders": ("monotone",)}, "one entry per language, got 1 and 3"),
        ({"register_probs": (0.5, 0.6)}, r"`register_probs` must be positive and sum to 1, got \(0.5, 0.6\)"),
        ({"language_probs": (0.0, 0.5, 0.5)}, r"`language_probs` must be positive and sum to 1, got \(0.0"),
        ({"register_probs": ()}, r"`register_probs` must be positive and sum to 1, got \(\)"),
        ({"cognate_rate": 1.5}, "`cognate_rate` must be >= 0 and <= 1, got 1.5"),
        ({"fertile_rate": -0.1}, "`fertile_rate` must be >= 0 and <= 1, got -0.1"),
        ({"synonym_rate": 2}, "`synonym_rate` must be >= 0 and <= 1, got 2"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ToyTask(**fields)


SIZES = {"train": 300, "validation": 40, "test": 30}


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return generate_toy_corpus(tmp_path_factory.mktemp("toy") / "corpus", sizes=SIZES)


def test_corpus_has_the_same_bytes_for_the_same_arguments(corpus, tmp_path):
    files = files_of(corpus)
    assert set(files) == {
        "README.md",
        "toy_task.json",
        *(f"data/{split}-00000-of-00001.parquet" for split in SIZES),
    }
    assert files_of(generate_toy_corpus(tmp_path / "again", ToyTask(), sizes=SIZES, seed=1)) == files
    other = files_of(generate_toy_corpus(tmp_path / "other", sizes=SIZES, seed=2))
    assert all(other[name] != files[name] for name in files if name.startswith("data"))


def test_corpus_loads_and_every_row_is_a_translation_in_its_mode(corpus):
    task = ToyTask.from_json(corpus / "toy_task.json")
    assert task == TASK
    modes = {str(mode): mode for mode, _ in task.modes}
    loaded = load_dataset(str(corpus))
    assert {split: len(dataset) for split, dataset in loaded.items()} == SIZES
    for split in SIZES:
        dataset = load_corpus(corpus, split, source_lang="src", target_lang="tgt")
        assert list(dataset) == list(loaded[split])
        assert dataset["id"][:] == list(range(SIZES[split]))
        for row in dataset:
            source, target = row["translation"]["src"], row["translation"]["tgt"]
            assert task.translate(source, modes[row["mode"]]) == target
        assert len(set(dataset["mode"])) == len(modes)


def test_no_held_out_source_is_in_another_split(tmp_path):
    # So few sentences (12) that independent draws would meet.
    task = ToyTask(num_words=4, min_length=2, max_length=2)
    folder = generate_toy_corpus(tmp_path, task, sizes={"train": 50, "validation": 4, "test": 4})
    seen = {
        split: [row["translation"]["src"] for row in load_dataset(str(folder), split=split)]
        for split in ("train", "validation", "test")
    }
    held_out = seen["validation"] + seen["test"]
    assert len(set(held_out)) == 8
    assert set(seen["train"]) and not set(seen["train"]) & set(held_out)


def test_too_few_source_sentences_are_an_error(tmp_path):
    task = ToyTask(num_words=2, min_length=2, max_length=2)
    with pytest.raises(ValueError, match="more source sentences than the held-out splits.* 2 that are taken"):
        generate_toy_corpus(tmp_path, task, sizes={"train": 1, "test": 2})


def test_the_card_is_valid_and_states_the_true_complexity(corpus):
    card = DatasetCard.load(corpus / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.task_categories == ["translation"]
    assert [entry["split"] for entry in card.data.configs[0]["data_files"]] == list(SIZES)
    assert f"C: {TASK.complexity():.4f} nats" in card.text
    assert "| train | 300 |" in card.text
    assert "| L0R0 | 0.360 | 0 | monotone | 0 |" in card.text


def test_a_toy_corpus_replaces_another_and_nothing_else(corpus, tmp_path):
    folder = generate_toy_corpus(tmp_path / "toy", sizes=SIZES, seed=2)
    (folder / "data/.train.123.tmp").touch()
    generate_toy_corpus(folder, sizes={"train": 20, "dev": 5})
    assert {split: len(rows) for split, rows in load_dataset(str(folder)).items()} == {"train": 20, "dev": 5}
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must be new or empty, .* with manifest.json\. Use another folder"):
        generate_toy_corpus(folder, sizes=SIZES)


@pytest.mark.parametrize(
    "name", ["data/train-00000-of-00001.parquet", "data/train-00000-of-00002.parquet", "train.de"]
)
def test_a_corpus_of_someone_else_stays_as_it_is(name, tmp_path, capsys):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("someone's")
    assert main(["toy", f"--output_dir={tmp_path}", "--train=10", "--validation=1", "--test=1"]) == 2
    assert f"{name}. Use another folder, or empty this one." in capsys.readouterr().err
    assert files_of(tmp_path) == {name: b"someone's"}


def test_a_toy_corpus_that_was_cut_short_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_nat.data.toy._card", None)
    with pytest.raises(TypeError):
        generate_toy_corpus(tmp_path, sizes=SIZES)
    monkeypatch.undo()
    assert len(load_dataset(str(generate_toy_corpus(tmp_path, sizes=SIZES)), split="test")) == SIZES["test"]


def test_a_split_without_sentences_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="`test` must have at least 1 sentence, got 0"):
        generate_toy_corpus(tmp_path / "toy", sizes={"train": 1, "test": 0})
    assert not (tmp_path / "toy").exists()
