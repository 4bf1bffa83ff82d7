from __future__ import annotations

import fast_align_oracle as oracle
import pytest
import torch

from hf_nat.alignment.diagonal_prior import _mean_feature, source_prior, update_tension


LENGTHS = [1, 2, 3, 5, 8, 13, 40]


@pytest.mark.parametrize("tension", [0.1, 4.0, 14.0])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("m", LENGTHS)
def test_closed_forms_are_the_sums(m: int, n: int, tension: float) -> None:
    j = torch.arange(1, m + 1, dtype=torch.float64)
    length = torch.full_like(j, m)
    prior = source_prior(j, length, n, tension)
    assert prior.sum(dim=1).tolist() == pytest.approx([0.92] * m)
    expected = [[oracle.prior(i, int(k), m, n, tension) for i in range(1, n + 1)] for k in j]
    torch.testing.assert_close(prior, torch.tensor(expected, dtype=torch.float64))
    means = [oracle.mean_feature(int(k), m, n, tension) for k in j]
    assert _mean_feature(j, length, torch.full_like(j, n), tension).tolist() == pytest.approx(means)


def test_tension_stays_in_its_bounds() -> None:
    shapes = {(5, 5): 3, (4, 7): 2, (0, 3): 9}
    assert update_tension(13.9, 0.0, shapes) == 14.0
    assert update_tension(4.0, -1.0, shapes) == 0.1


def test_tension_settles_where_the_expected_feature_is_the_observed_one() -> None:
    shapes = {(6, 6): 1}
    j = torch.arange(1, 7, dtype=torch.float64)
    six = torch.full_like(j, 6)
    observed = float(_mean_feature(j, six, six, 5.0).mean())
    tension = 4.0
    for _ in range(40):
        tension = update_tension(tension, observed, shapes)
    assert tension == pytest.approx(5.0, abs=1e-6)
