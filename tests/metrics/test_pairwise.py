"""All pairs at once are the pairs one by one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from hf_nat.metrics.pairwise import pairwise_bleu, pairwise_chrf


PIECES = ["a", "ab", "the dog", "ü", "東京", "!", "xxxxxxxxx", "", "ab ab", "\U0001f600", "\t"]
DRAW = random.Random(1)
LISTS = [
    *([""], ["", ""], ["a", "", " b"], ["a"] * 3, ["the cat sat on the mat", "on the mat sat the cat"]),
    *([" ".join(DRAW.choices(PIECES, k=DRAW.randint(0, 9))) for _ in range(DRAW.randint(1, 7))] for _ in range(30)),
]


def test_chrf_is_that_of_each_pair() -> None:
    chrf = CHRF()
    for texts in LISTS:
        expected = [[chrf.sentence_score(text, [other]).score for other in texts] for text in texts]
        assert pairwise_chrf(texts) == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("tokenize", ["13a", "zh", "char"])
def test_bleu_is_that_of_each_pair(tokenize: str) -> None:
    bleu = BLEU(tokenize=tokenize, effective_order=True)
    for texts in LISTS:
        expected = [[bleu.sentence_score(text, [other]).score for other in texts] for text in texts]
        assert pairwise_bleu(texts, tokenize).tolist() == expected
