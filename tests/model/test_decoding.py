"""Exact quantiles against brute-force enumeration of the distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding import distribution_walk, probabilities, quantile_walk, run_walk
from model.numbers import NumberCode, Prefix

CODES = [
    NumberCode(min_exponent=-1, max_exponent=2, widths=(1, 1)),
    NumberCode(min_exponent=0, max_exponent=1, widths=(2,)),
    NumberCode(min_exponent=-1, max_exponent=1, widths=(1, 1), signed=True),
]
seeds = st.integers(0, 2**32 - 1)
quantile = st.floats(0.0005, 0.9995)


class RandomModel:
    """Random logits for every prefix, peaked or flat."""

    def __init__(self, code: NumberCode, seed: int, scale: float) -> None:
        self.code, self.scale = code, scale
        self.random = np.random.default_rng(seed)
        self.known: dict[Prefix, np.ndarray] = {}

    def __call__(self, prefix: Prefix) -> np.ndarray:
        size = self.code.sizes[len(prefix)]
        return self.known.setdefault(prefix, self.random.normal(size=size) * self.scale)

    def bins(self, prefix: Prefix = (), mass: float = 1.0) -> list[tuple[float, float, float]]:
        """Every bin (low, high, probability), by plain recursion over softmaxes."""
        if len(prefix) == self.code.length:
            return [(*self.code.interval(prefix), mass)]
        allowed = sorted(self.code.choices(prefix))
        weights = {symbol: float(np.exp(self(prefix)[symbol])) for symbol in allowed}
        total = sum(weights.values())
        return [b for s in allowed for b in self.bins((*prefix, s), mass * weights[s] / total)]


def brute_quantile(bins: list[tuple[float, float, float]], tau: float) -> float:
    """Invert the piecewise linear distribution function by summing all bins in order of value."""
    below = 0.0
    for low, high, mass in sorted(bins):
        if below + mass >= tau:
            return low + (high - low) * (tau - below) / mass
        below += mass
    return max(high for _, high, _ in bins)


def distribution_at(bins: list[tuple[float, float, float]], value: float) -> float:
    return sum(m * min(max((value - low) / (high - low), 0.0), 1.0) for low, high, m in bins)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CODES), seeds, st.floats(0.1, 6), st.lists(quantile, min_size=1, max_size=6))
def test_the_walk_equals_brute_force(code: NumberCode, seed: int, scale: float, taus: list[float]) -> None:
    model = RandomModel(code, seed, scale)
    found = run_walk(quantile_walk(code, taus), model)
    bins = model.bins()
    assert sum(mass for _, _, mass in bins) == pytest.approx(1.0, abs=1e-12)
    for tau, value in zip(taus, found, strict=True):
        # In probability the two agree to rounding. In value an unlikely bin magnifies that rounding.
        assert distribution_at(bins, value) == pytest.approx(tau, abs=1e-9)
        if any(low <= value <= high and mass > 1e-6 for low, high, mass in bins):
            assert value == pytest.approx(brute_quantile(bins, tau), rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CODES), seeds, st.lists(quantile, min_size=2, max_size=8))
def test_quantiles_are_ordered_and_finite(code: NumberCode, seed: int, taus: list[float]) -> None:
    values = run_walk(quantile_walk(code, sorted(taus)), RandomModel(code, seed, 3.0))
    assert np.isfinite(values).all()
    assert list(values) == sorted(values)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CODES), seeds, quantile)
def test_the_distribution_walk_is_the_inverse(code: NumberCode, seed: int, tau: float) -> None:
    model = RandomModel(code, seed, 2.0)
    (value,) = run_walk(quantile_walk(code, [tau]), model)
    (probability,) = run_walk(distribution_walk(code, [value]), model)
    assert probability == pytest.approx(tau, abs=1e-9)


def test_a_walk_asks_for_distinct_prefixes_only_and_takes_one_step_per_position() -> None:
    code = NumberCode()
    walk = quantile_walk(code, (0.4, 0.4, 0.6))
    prefixes, steps = next(walk), 0
    assert prefixes == [()]
    with pytest.raises(StopIteration) as end:
        while True:
            assert len(prefixes) == len(set(prefixes)) <= 2
            steps += 1
            prefixes = walk.send([np.zeros(code.sizes[len(p)]) for p in prefixes])
    assert steps == code.length
    low, again, _ = end.value.value
    assert low == again


def test_forbidden_symbols_get_no_probability_however_large_their_logit() -> None:
    code = NumberCode()
    logits = np.zeros(10)
    logits[0] = 1000.0  # a leading zero
    row = probabilities(code, (8,), logits)
    assert len(row) == 9
    assert row == pytest.approx(np.full(9, 1 / 9))


def test_uniform_random_quantiles_are_samples() -> None:
    code = CODES[0]
    model = RandomModel(code, 5, 2.0)
    draws = run_walk(quantile_walk(code, np.random.default_rng(0).uniform(size=4000).tolist()), model)
    for tau in (0.1, 0.5, 0.9):
        (value,) = run_walk(quantile_walk(code, [tau]), model)
        assert np.mean(np.array(draws) <= value) == pytest.approx(tau, abs=0.03)


def test_a_certain_model_answers_inside_its_bin() -> None:
    code = NumberCode()
    target = code.encode(4321.0)

    def logits(prefix: Prefix) -> np.ndarray:
        row = np.full(code.sizes[len(prefix)], -1e9)
        row[target[len(prefix)]] = 0.0
        return row

    low, middle, high = run_walk(quantile_walk(code, (0.001, 0.5, 0.999)), logits)
    assert (low, middle, high) == pytest.approx((4320.01, 4325, 4329.99))
