"""Metrics against values computed one by one."""

import numpy as np
import pytest
from scipy import stats

from model.evaluation.metrics import crps_losses, grouped_mean, ln_values, pinball_losses, score, spearman

QUANTILES = (0.1, 0.5, 0.9)


def test_scores_agree_with_computing_them_one_by_one() -> None:
    rng = np.random.default_rng(1)
    truth = np.exp(rng.normal(size=40))
    predicted = np.exp(np.sort(rng.normal(size=(40, 3)), axis=1))
    scores = score(truth, predicted, QUANTILES, "runtime_seconds")
    errors = [abs(np.log(p[1]) - np.log(t)) for t, p in zip(truth, predicted, strict=True)]
    losses = []
    for t, row in zip(truth, predicted, strict=True):
        for tau, p in zip(QUANTILES, row, strict=True):
            short = np.log(t) - np.log(p)
            losses.append(tau * short if short >= 0 else (tau - 1) * short)
    inside = [p[0] <= t <= p[2] for t, p in zip(truth, predicted, strict=True)]
    assert scores.n == 40
    assert scores.mean_abs_ln == pytest.approx(sum(errors) / 40)
    assert scores.median_abs_ln == pytest.approx(np.median(errors))
    assert scores.coverage == pytest.approx(sum(inside) / 40)
    assert scores.width == pytest.approx(np.mean(np.log(predicted[:, 2] / predicted[:, 0])))
    assert scores.pinball == pytest.approx(np.mean(losses))
    assert scores.spearman == pytest.approx(stats.spearmanr(truth, predicted[:, 1]).statistic)
    assert scores.observed == pytest.approx([np.mean(truth <= predicted[:, i]) for i in range(3)])


def test_a_perfect_prediction_has_no_error_and_full_rank_correlation() -> None:
    truth = np.array([1.0, 10.0, 100.0])
    scores = score(truth, np.stack([truth] * 3, axis=1), QUANTILES, "runtime_seconds")
    assert (scores.mean_abs_ln, scores.pinball, scores.width, scores.coverage) == (0, 0, 0, 1)
    assert scores.spearman == pytest.approx(1)


def test_a_factor_of_two_weighs_the_same_in_both_directions() -> None:
    predicted = np.array([[np.nan, 2.0, np.nan], [np.nan, 0.5, np.nan]])
    scores = score(np.ones(2), predicted, QUANTILES, "cpu_cores")
    assert scores.mean_abs_ln == pytest.approx(np.log(2))


def test_a_method_without_an_interval_has_no_coverage() -> None:
    predicted = np.array([[np.nan, 2.0, np.nan], [1.0, 3.0, 4.0]])
    scores = score(np.array([2.0, 3.0]), predicted, QUANTILES, "cpu_cores")
    assert scores.mean_abs_ln == 0
    assert (scores.coverage, scores.width, scores.pinball, scores.observed) == (None, None, None, None)


def test_a_method_is_scored_on_the_records_that_it_answers_and_says_how_many() -> None:
    predicted = np.array([[1.0, 2.0, 3.0], [np.nan, np.nan, np.nan]])
    scores = score(np.ones(2), predicted, QUANTILES, "cpu_cores")
    assert (scores.n, scores.answered, scores.complete) == (2, 1, False)
    assert scores.mean_abs_ln == pytest.approx(np.log(2))
    assert score(np.ones(1), predicted[:1], QUANTILES, "cpu_cores").complete
    silent = score(np.ones(1), predicted[1:], QUANTILES, "cpu_cores")
    assert (silent.answered, silent.mean_abs_ln, silent.complete) == (0, None, False)


def test_every_group_weighs_the_same() -> None:
    errors = np.array([1.5, 5.0, 0.0, 3.0, 4.0])  # group a: 5 and 4, group b: 1.5, 0 and 3
    groups = np.array(["b", "a", "b", "b", "a"])
    middle = np.exp(errors)
    predicted = np.stack([middle / np.e, middle, middle * np.e], axis=1)
    scores = score(np.ones(5), predicted, QUANTILES, "runtime_seconds", groups)
    assert scores.groups == 2
    assert scores.mean_abs_ln == pytest.approx((4.5 + 1.5) / 2)
    assert scores.record_mean_abs_ln == pytest.approx(13.5 / 5)
    assert scores.median_abs_ln == pytest.approx((4.5 + 1.5) / 2)
    assert scores.coverage == pytest.approx((0 + 1 / 3) / 2)
    assert scores.width == pytest.approx(2.0)
    assert scores.observed == pytest.approx(((1 + 2 / 3) / 2, 1.0, 1.0))
    assert grouped_mean(errors, groups) == pytest.approx((4.5 + 1.5) / 2)


def test_rank_correlation_within_groups_needs_five_different_inputs() -> None:
    rising, falling = np.arange(1.0, 6.0), np.arange(5.0, 0.0, -1.0)
    truth = np.concatenate([rising, rising, rising])
    middle = np.concatenate([rising, falling, rising])
    groups = np.repeat(["up", "down", "repeats"], 5)
    inputs = np.array([*range(10), 10, 10, 11, 12, 13])
    predicted = np.stack([middle] * 3, axis=1)
    scores = score(truth, predicted, QUANTILES, "cpu_cores", groups, inputs)
    assert scores.spearman_within == pytest.approx(0.0)
    all_different = score(truth, predicted, QUANTILES, "cpu_cores", groups)
    assert all_different.spearman_within == pytest.approx(1 / 3)
    assert score(truth[:4], predicted[:4], QUANTILES, "cpu_cores").spearman_within is None


def test_crps_of_a_point_is_its_error() -> None:
    truth = np.array([0.0, 1.0, 7.0])
    assert crps_losses(truth, np.full((3, 3), 3.0), QUANTILES) == pytest.approx([3.0, 2.0, 4.0])


def test_crps_agrees_with_the_integral_for_a_uniform_distribution() -> None:
    # CRPS of U(0, 1) at y: integral of (F - 1[x >= y])^2 = y^3 / 3 + (1 - y)^3 / 3.
    levels = tuple(np.linspace(0.001, 0.999, 999).tolist())
    truth = np.array([0.1, 0.5, 0.8])
    found = crps_losses(truth, np.tile(levels, (3, 1)), levels)
    assert found == pytest.approx(truth**3 / 3 + (1 - truth) ** 3 / 3, abs=2e-3)
    coarse = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    assert crps_losses(truth, np.tile(coarse, (3, 1)), coarse) == pytest.approx(found, rel=0.05)


def test_no_records_give_no_numbers() -> None:
    scores = score(np.array([]), np.empty((0, 3)), QUANTILES, "cpu_cores")
    assert scores.n == 0
    assert scores.mean_abs_ln is None


def test_values_are_raised_to_the_floor_of_their_target() -> None:
    zero = np.zeros(1)
    assert np.exp(ln_values(zero, "runtime_seconds"))[0] == pytest.approx(1e-3)
    assert np.exp(ln_values(zero, "peak_memory_bytes"))[0] == pytest.approx(1.0)
    assert np.exp(ln_values(zero, "cpu_cores"))[0] == pytest.approx(1e-3)
    assert np.isnan(ln_values(np.array([np.nan]), "cpu_cores"))[0]


def test_rank_correlation_averages_ties_and_ignores_what_is_not_a_number() -> None:
    x = np.array([1.0, 2.0, 2.0, 3.0, np.nan, np.inf])
    y = np.array([5.0, 1.0, 7.0, 7.0, 1.0, 2.0])
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x[:4], y[:4]).statistic)


def test_rank_correlation_is_undefined_for_constants_and_single_pairs() -> None:
    assert spearman(np.ones(5), np.arange(5.0)) is None
    assert spearman(np.array([1.0]), np.array([2.0])) is None
    assert spearman(np.full(3, np.nan), np.arange(3.0)) is None


def test_pinball_loss_is_least_at_the_quantile() -> None:
    sample = np.arange(1, 101, dtype=float)
    losses = [pinball_losses(sample, np.full((100, 1), guess), [0.9]).mean() for guess in range(1, 101)]
    assert 89 <= 1 + int(np.argmin(losses)) <= 91
