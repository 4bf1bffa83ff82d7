from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fast_align_oracle import Oracle

from hf_nat.alignment import align, encoded_corpus, format_links
from hf_nat.data import ToyTask


TOOL = Path(__file__).parents[3] / "shared/data/fast_align_toy"
needs_tool_output = pytest.mark.skipif(not TOOL.is_dir(), reason=f"no output of fast_align in {TOOL}")
FILES = {
    "fwd": {},
    "rev": {"reverse": True},
    "inter": {"symmetrize": "intersect"},
    "union": {"symmetrize": "union"},
    "grow-diag": {"symmetrize": "grow-diag"},
    "grow-diag-final": {"symmetrize": "grow-diag-final"},
    "gdfa": {"symmetrize": "grow-diag-final-and"},
}


def random_corpus(seed: int, size: int = 30) -> tuple[list[list[str]], list[list[str]]]:
    """Sentences of very different lengths whose words are translated, dropped, doubled and moved; some are empty."""
    rng = random.Random(seed)
    sources = [[f"s{rng.randint(0, 15)}" for _ in range(rng.choice([0, 1, 3, 5, 9, 14]))] for _ in range(size)]
    targets = []
    for source in sources:
        target = [f"t{word[1:]}" for word in source for _ in range(rng.choice([0, 1, 1, 1, 2]))]
        if rng.random() < 0.3:
            rng.shuffle(target)
        targets.append(target + [f"t{rng.randint(16, 18)}"] * (rng.random() < 0.2))
    return sources, targets


def toy_pairs(size: int) -> tuple[list[list[str]], list[list[str]]]:
    task, rng = ToyTask(), random.Random(1)
    sources = [task.sample_source(rng) for _ in range(size)]
    return [s.split() for s in sources], [task.translate(s, task.sample_mode(rng)).split() for s in sources]


@needs_tool_output
@pytest.mark.parametrize("name", sorted(FILES))
def test_links_are_those_of_the_tool(name: str) -> None:
    sources, targets = (
        [line.split() for line in (TOOL / f"toy.{lang}").read_text(encoding="utf-8").splitlines()]
        for lang in ("en", "de")
    )
    lines = "".join(f"{format_links(links)}\n" for links in align(sources, targets, **FILES[name]))
    assert lines == (TOOL / f"{name}.align").read_text(encoding="utf-8")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_link_has_the_highest_weight_by_the_plain_way(seed: int, reverse: bool) -> None:
    sources, targets = random_corpus(seed)
    oracle = Oracle(targets, sources) if reverse else Oracle(sources, targets)
    for links, scores in zip(align(sources, targets, reverse=reverse), oracle.scores, strict=True):
        chosen = {link[0]: link[1] for link in links} if reverse else {link[1]: link[0] for link in links}
        assert len(chosen) == len(links)
        for position, weights in enumerate(scores):
            # Equal weights may fall either way: only what is chosen must be as good as the best.
            assert weights[chosen.get(position, -1) + 1] == pytest.approx(max(weights), rel=1e-9)


def test_a_tie_goes_to_the_lower_position() -> None:
    # "y" is in the middle, as near to the first as to the second of two equal words.
    assert list(align([["b", "b"]] * 3, [["x", "y", "x"]] * 3)) == [[(0, 0), (0, 1), (1, 2)]] * 3


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"symmetrize": "grow-diag-final-and"}])
def test_chunks_and_threads_do_not_matter(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, targets = toy_pairs(300)  # no word twice in a sentence: no ties
    whole = list(align(sources, targets, **options))
    monkeypatch.setattr(encoded_corpus, "CHUNK_CELLS", 200)
    num_threads = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert list(align(sources, targets, **options)) == whole
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(num_threads)


def test_names_of_the_words_do_not_matter() -> None:
    sources, targets = random_corpus(4)
    renamed = [[f"x{word}" for word in sentence] for sentence in sources]
    assert list(align(renamed, targets)) == list(align(sources, targets))


def test_blank_sentences_change_nothing_but_their_own_row() -> None:
    sources, targets = random_corpus(5)
    with_blanks = list(align([[], *sources, ["a"], []], [["x"], *targets, [], []]))
    assert with_blanks[0] == with_blanks[-1] == with_blanks[-2] == []
    assert with_blanks[1:-2] == list(align(sources, targets))


def test_generators_are_read_once_and_together() -> None:
    sources, targets = random_corpus(6)
    consumed = [0, 0]

    def count(side: int, sentences: list[list[str]]) -> Iterator[list[str]]:
        for sentence in sentences:
            consumed[side] += 1
            assert abs(consumed[0] - consumed[1]) <= 1
            yield sentence

    assert list(align(count(0, sources), count(1, targets))) == list(align(sources, targets))


def test_toy_words_find_their_translations() -> None:
    sources, targets = toy_pairs(2000)
    task, right, found = ToyTask(), 0, 0
    for source, target, links in zip(sources, targets, align(sources, targets), strict=True):
        truth = set(task.align(" ".join(source), " ".join(target)))
        right += len(truth & set(links))
        found += len(links)
    assert right / found > 0.98


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"symmetrize": "union"}])
def test_empty_and_one_word_corpora(options: dict) -> None:
    assert list(align([], [], **options)) == []
    assert list(align([[]], [[]], **options)) == [[]]
    assert list(align([["a"]], [["x"]], **options)) == [[(0, 0)]]


@pytest.mark.parametrize(("num_sources", "num_targets", "shorter"), [(2, 3, "sources"), (3, 2, "targets")])
def test_unequal_sides_are_an_error(num_sources: int, num_targets: int, shorter: str) -> None:
    with pytest.raises(ValueError, match=f"`{shorter}` ends after 2 sentences"):
        align([["a"]] * num_sources, [["x"]] * num_targets)


def test_unknown_method_and_two_directions_are_errors() -> None:
    with pytest.raises(ValueError, match="`symmetrize` must be one of .* got 'gdfa'"):
        align([["a"]], [["x"]], symmetrize="gdfa")
    with pytest.raises(ValueError, match="`reverse` must be False with `symmetrize`"):
        align([["a"]], [["x"]], symmetrize="union", reverse=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("symmetrize", [None, "grow-diag-final-and"])
def test_gpu_finds_the_links_of_the_cpu(symmetrize: str | None) -> None:
    sources, targets = toy_pairs(2000)
    on_gpu, on_cpu = (
        list(align(sources, targets, symmetrize=symmetrize, device=device)) for device in ("cuda", "cpu")
    )
    assert sum(a != b for a, b in zip(on_gpu, on_cpu, strict=True)) <= 2
