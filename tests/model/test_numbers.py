"""The number code: bins, order, edges."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.errors import ValueOutOfRange
from model.numbers import NumberCode

CODES = [
    NumberCode(),
    NumberCode(-6, 15, (1, 1, 1)),
    NumberCode(widths=(2,)),
    NumberCode(min_exponent=-2, max_exponent=3, widths=(2, 1)),
    NumberCode(signed=True),
]
codes = st.sampled_from(CODES)
WIDE = NumberCode(-6, 15, (1, 1, 1))


def magnitudes(code: NumberCode) -> st.SearchStrategy[float]:
    exponents = st.floats(code.min_exponent - 3, code.max_exponent + 0.999)
    return exponents.map(lambda e: 10.0**e).filter(lambda v: v < 10.0 ** (code.max_exponent + 1))


@given(codes, st.data())
def test_a_value_round_trips_to_the_middle_of_its_bin(code: NumberCode, data: st.DataObject) -> None:
    value = data.draw(magnitudes(code))
    symbols = code.encode(value)
    low, high = code.interval(symbols)
    middle = code.decode(symbols)
    assert low <= value < high
    assert low < middle < high
    assert math.isclose(middle, (low + high) / 2, rel_tol=1e-12)
    assert code.encode(middle) == symbols


@given(st.floats(1e-6, 1e15))
def test_the_error_is_at_most_half_a_unit_of_the_last_digit(value: float) -> None:
    unit = 10.0 ** (math.floor(math.log10(value)) - WIDE.digits + 1)
    low, high = WIDE.interval(WIDE.encode(value))
    assert high - low <= unit * (1 + 1e-9) or math.isclose(
        value, 10 ** round(math.log10(value)), rel_tol=1e-9
    )
    assert abs(WIDE.decode(WIDE.encode(value)) - value) <= (high - low) / 2 * (1 + 1e-9)


@given(codes, st.data())
def test_the_order_of_codes_is_the_order_of_values(code: NumberCode, data: st.DataObject) -> None:
    values = [data.draw(magnitudes(code)) for _ in range(2)]
    if code.signed:
        values = [value * data.draw(st.sampled_from([-1, 1])) for value in values]
    a, b = sorted(values)
    assert rank(code, a) <= rank(code, b)


def rank(code: NumberCode, value: float) -> tuple[int, ...]:
    """Position among the choices, which ascend in value, at each step."""
    symbols = code.encode(value)
    return tuple(code.choices(symbols[:i]).index(symbols[i]) for i in range(code.length))


@pytest.mark.parametrize("exponent", range(-6, 16))
def test_powers_of_ten_and_their_neighbours_fall_on_the_right_side(exponent: int) -> None:
    power = float(f"1e{exponent}")
    symbol = exponent - WIDE.min_exponent + 1
    assert WIDE.encode(power) == (symbol, 1, 0, 0)
    assert WIDE.encode(math.nextafter(power, math.inf)) == (symbol, 1, 0, 0)
    assert WIDE.encode(math.nextafter(power, 0)) == (symbol - 1, 9, 9, 9)


@given(codes, st.data())
def test_every_code_is_the_code_of_its_own_value(code: NumberCode, data: st.DataObject) -> None:
    prefix: tuple[int, ...] = ()
    while len(prefix) < code.length:
        prefix = (*prefix, data.draw(st.sampled_from(code.choices(prefix))))
    assert code.encode(code.decode(prefix)) == prefix
    low, high = code.interval(prefix)
    assert low < high
    if not code.signed or prefix[0]:
        assert code.encode(low) == prefix  # the lower end belongs to the bin


def test_neighbouring_bins_touch() -> None:
    small = NumberCode(min_exponent=-1, max_exponent=1, widths=(1, 1))
    ends = 0.0
    for code in all_codes(small):
        low, high = small.interval(code)
        assert low == ends
        ends = high
    assert ends == 100.0


def all_codes(code: NumberCode, prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if len(prefix) == code.length:
        return [prefix]
    return [c for symbol in code.choices(prefix) for c in all_codes(code, (*prefix, symbol))]


def test_zero_lies_in_the_lowest_bin() -> None:
    for code in CODES:
        assert code.interval(code.encode(0.0))[0] == 0.0
        assert code.encode(-0.0)[-code.digits :] == code.encode(0.0)[-code.digits :]
        assert code.encode(5e-324) == code.encode(0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    for code in CODES:
        with pytest.raises(ValueOutOfRange):
            code.encode(value)


def test_negative_numbers_are_refused_by_an_unsigned_code() -> None:
    with pytest.raises(ValueOutOfRange):
        WIDE.encode(-1e-300)
    signed = NumberCode(signed=True)
    assert signed.decode(signed.encode(-12.34)) == pytest.approx(-12.35)


def test_too_large_magnitudes_are_refused_not_clipped() -> None:
    assert WIDE.encode(math.nextafter(1e16, 0)) == (22, 9, 9, 9)
    for value in (1e16, 1e300):
        with pytest.raises(ValueOutOfRange):
            WIDE.encode(value)
    with pytest.raises(ValueOutOfRange):
        NumberCode(signed=True).encode(-1e16)


@given(codes)
def test_an_alphabet_has_one_token_per_symbol(code: NumberCode) -> None:
    for position in range(code.length):
        alphabet = code.alphabet(position)
        assert len(alphabet) == len(set(alphabet)) == code.sizes[position]


def test_a_code_without_digits_is_no_code() -> None:
    for widths in ((), (0,)):
        with pytest.raises(ValueError, match="widths"):
            NumberCode(widths=widths)


@given(st.floats(min_value=1e-6, max_value=1e15))
def test_the_first_mantissa_digit_of_a_normal_number_is_not_zero(value: float) -> None:
    symbols = WIDE.encode(value)
    assume(symbols[0] > 0)
    assert symbols[1] > 0


def test_limits_are_the_middles_of_the_outermost_bins() -> None:
    assert NumberCode().limits == (0.000005, 999.5e12)
    signed = NumberCode(min_exponent=0, max_exponent=1, widths=(1,), signed=True)
    assert signed.limits == (-95.0, 95.0)
