"""The number code: float <-> a few symbols, exponent first, most significant digit first.

A value is **truncated** to a code. The code stands for a bin [m * u, (m + 1) * u) and decodes to its middle, so
that the distribution over codes has an exact inverse (see `model.decoding`). Symbols are small integers, local to
their position; `alphabet` gives their token spellings.

    position    symbols                             value
    sign        0 = negative, 1 = not negative      only for signed codes
    exponent    0 = below 10**min_exponent          mantissa is 0 .. 10**digits - 1, as in IEEE subnormals
                k = min_exponent + k - 1            mantissa has no leading zero
    mantissa    0 .. 10**width - 1, per width       most significant first

Zero lies in the lowest bin. NaN, infinities, negative values of an unsigned code and magnitudes of
10**(max_exponent + 1) or more raise ValueOutOfRange: nothing is clipped.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from model.errors import ValueOutOfRange

Code = tuple[int, ...]
#: The first symbols of a code.
Prefix = tuple[int, ...]

NEGATIVE = 0
BELOW = 0  # the exponent symbol for magnitudes under 10**min_exponent


@dataclass(frozen=True)
class NumberCode:
    """Exponent range and mantissa widths; part of the checkpoint.

    The default writes three figures in three tokens, from 0.01 with all figures and from 0.00001 with fewer up to a
    thousand terabytes; its 128 tokens are as many as vLLM tells the probabilities of.
    """

    min_exponent: int = -2
    max_exponent: int = 14
    #: Decimal digits in each mantissa token.
    widths: tuple[int, ...] = (1, 2)
    signed: bool = False

    def __post_init__(self) -> None:
        if self.max_exponent < self.min_exponent or not self.widths or min(self.widths) < 1:
            raise ValueError("a number code needs an exponent range and mantissa widths of at least 1")

    @property
    def digits(self) -> int:
        """Decimal digits of the whole mantissa."""
        return sum(self.widths)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Alphabet size at each position."""
        exponents = self.max_exponent - self.min_exponent + 2
        sign = (2,) if self.signed else ()
        return (*sign, exponents, *(10**width for width in self.widths))

    @property
    def length(self) -> int:
        """Symbols in a code."""
        return len(self.sizes)

    def alphabet(self, position: int) -> tuple[str, ...]:
        """Token spellings at a position, in symbol order. Mantissa tokens of one width share theirs."""
        if self.signed:
            if position == 0:
                return ("<->", "<+>")
            position -= 1
        if position == 0:
            return ("<e0>", *(f"<e{e:+d}>" for e in range(self.min_exponent, self.max_exponent + 1)))
        width = self.widths[position - 1]
        return tuple(f"<{number:0{width}d}>" for number in range(10**width))

    def choices(self, prefix: Prefix) -> range:
        """Symbols that may follow a prefix, in ascending order of the values they lead to."""
        position = len(prefix)
        if self.signed and position == 0:
            return range(2)
        first_mantissa = self.signed + 1
        lowest = 0
        if position == first_mantissa and prefix[position - 1] != BELOW:
            lowest = 10 ** (self.widths[0] - 1)
        allowed = range(lowest, self.sizes[position])
        return allowed[::-1] if self.signed and prefix[0] == NEGATIVE else allowed

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The least and the largest value that a code stands for: middles of its outermost bins."""
        most = tuple(10**width - 1 for width in self.widths)
        sign = (1,) if self.signed else ()
        largest = self.decode((*sign, self.max_exponent - self.min_exponent + 1, *most))
        return (-largest if self.signed else self.decode((BELOW, *(0 for _ in self.widths))), largest)

    def encode(self, value: float) -> Code:
        """The code of the bin that holds `value`. Raises ValueOutOfRange."""
        if not math.isfinite(value):
            raise ValueOutOfRange("not a finite number")
        if value < 0 and not self.signed:
            raise ValueOutOfRange("a negative number where none is allowed")
        # The shortest decimal that reads back as this float: 0.001 is then 1.00e-3 although the float lies a hair
        # under it, and a value is in its bin exactly if low <= value < high in floating point.
        _, figures, scale = Decimal(repr(float(value))).as_tuple()
        assert isinstance(scale, int)
        exponent = len(figures) - 1 + scale if value else self.min_exponent - 1
        if exponent > self.max_exponent:
            raise ValueOutOfRange(f"a magnitude of 1e{self.max_exponent + 1} or more")
        symbol = max(BELOW, exponent - self.min_exponent + 1)
        kept = exponent - self._place(symbol) + 1
        padded = figures[: max(kept, 0)] + (0,) * (kept - len(figures))
        mantissa = int("".join(map(str, padded)) or "0")
        symbols = [symbol]
        below = self.digits
        for width in self.widths:
            below -= width
            symbols.append(mantissa // 10**below % 10**width)
        sign = (int(value >= 0),) if self.signed else ()
        return (*sign, *symbols)

    def interval(self, code: Code) -> tuple[float, float]:
        """The bin of a complete code: its lower and upper end, as the floats nearest to them."""
        mantissa, place, negative = self._parts(code)
        low, high = float(f"{mantissa}e{place}"), float(f"{mantissa + 1}e{place}")
        return (-high, -low) if negative else (low, high)

    def decode(self, code: Code) -> float:
        """The middle of the code's bin."""
        mantissa, place, negative = self._parts(code)
        middle = float(f"{10 * mantissa + 5}e{place - 1}")
        return -middle if negative else middle

    def _place(self, exponent_symbol: int) -> int:
        """Decimal place of the last mantissa digit: the bin is 10**place wide."""
        if exponent_symbol == BELOW:
            return self.min_exponent - self.digits
        return self.min_exponent + exponent_symbol - self.digits

    def _parts(self, code: Code) -> tuple[int, int, bool]:
        if len(code) != self.length:
            raise ValueError("an incomplete code")
        negative = self.signed and code[0] == NEGATIVE
        exponent, *mantissa = code[1:] if self.signed else code
        number = 0
        for width, symbol in zip(self.widths, mantissa, strict=True):
            number = number * 10**width + symbol
        return number, self._place(exponent), negative
