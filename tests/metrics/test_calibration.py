from __future__ import annotations

import itertools

import numpy as np
import pytest

from hf_nat.metrics.calibration import Calibration, reliability


def best_monotone_error(qualities: list[float], grid: np.ndarray) -> float:
    """Least squared error of all rising sequences of grid values."""
    return min(
        sum((value - quality) ** 2 for value, quality in zip(values, qualities, strict=True))
        for values in itertools.combinations_with_replacement(grid, len(qualities))
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_rising_curve_is_nearer(seed):
    generator = np.random.default_rng(seed)
    scores = np.arange(5.0)
    qualities = generator.integers(0, 5, size=5) / 4
    calibration = Calibration.fit(scores[[3, 1, 0, 2, 4]].tolist(), qualities[[3, 1, 0, 2, 4]].tolist())
    assert list(calibration.confidences) == sorted(calibration.confidences)
    assert len(calibration.scores) == len(set(calibration.confidences)), "a step has one knot"
    grid = np.unique([np.mean(qualities[i:j]) for i in range(5) for j in range(i + 1, 6)])
    fitted = isotonic(qualities)
    assert sum((fitted - qualities) ** 2) == pytest.approx(best_monotone_error(qualities.tolist(), grid))
    assert set(np.round(fitted, 9)) == set(np.round(calibration.confidences, 9))


def isotonic(values: np.ndarray) -> np.ndarray:
    """The max-min formula of isotonic regression."""
    n = len(values)
    return np.array([max(min(values[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)])


def test_equal_scores_are_one_point_and_outside_the_knots_it_is_constant():
    calibration = Calibration.fit([-1.0, -1.0, -0.5], [0.2, 0.4, 0.9])
    assert calibration.scores == (-1.0, -0.5)
    assert calibration.confidences == pytest.approx((0.3, 0.9))
    assert calibration.confidence([-9, -0.75, 0]) == pytest.approx([0.3, 0.6, 0.9])


def test_falling_quality_gives_one_confidence_for_all():
    calibration = Calibration.fit([1.0, 2.0, 3.0], [0.9, 0.6, 0.3])
    assert calibration.confidence([0, 1, 5]) == pytest.approx([0.6] * 3)


def test_errors():
    with pytest.raises(ValueError, match="at least 1 sentence"):
        Calibration.fit([], [])
    with pytest.raises(ValueError, match="one length, got 2 and 1"):
        Calibration.fit([1.0, 2.0], [0.5])
    with pytest.raises(ValueError, match="`num_bins` must be >= 1, got 0"):
        reliability([0.5], [0.5], 0)
    with pytest.raises(ValueError, match="got 0 and 0"):
        reliability([], [])


def test_the_calibration_error_is_the_mean_distance_in_a_bin():
    found = reliability([0.1, 0.15, 0.95, 1.0], [0.3, 0.0, 0.9, 0.5], num_bins=10)
    assert found.counts == (2, 2)
    assert found.confidences == pytest.approx((0.125, 0.975))
    assert found.qualities == pytest.approx((0.15, 0.7))
    assert found.error == pytest.approx((0.025 + 0.275) / 2)
    assert reliability([0.2, 0.8], [0.2, 0.8]).error == 0
