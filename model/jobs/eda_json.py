"""JSON for hostile input: no NaN or Infinity, bounds on depth and size, keys in sorted order.

Of a key that appears twice the last value counts, as in OpenLane itself (published designs have such keys).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from model.errors import ConfigTooDeep, InvalidConfig
from model.jobs.eda_sections import UnfinishedError, remember
from model.jobs.job import Value
from model.jobs.limits import MAX_DEPTH, check_json, check_object
from model.jobs.time_limit import check_time

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@remember
def parse_json_object(text: str) -> Mapping[str, Value]:
    """A JSON object with sorted keys. Raises InvalidConfig with line and column, or ConfigTooDeep."""
    try:
        parsed = json.loads(text, parse_constant=_no_constant, parse_float=_finite_float)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) and (closing := _closing(text)):
            raise UnfinishedError("not valid JSON", closing, line=error.lineno, column=error.colno) from None
        raise InvalidConfig("not valid JSON", line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise ConfigTooDeep(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidConfig("a number that is out of range") from None
    check_json(text, parsed)
    return sorted_object(parsed)


def sorted_object(value: object, path: str | None = None) -> Mapping[str, Value]:
    """A JSON object with sorted keys all the way down. Raises InvalidConfig where it is none."""
    if not isinstance(value, Mapping):
        raise InvalidConfig("this must be an object", path=path)
    if not value:
        raise InvalidConfig("an empty object", path=path)
    check_object(value)
    return _sorted_mapping(value, path)


def _sorted_mapping(value: Mapping[object, object], path: str | None) -> dict[str, Value]:
    names = [name for name in value if isinstance(name, str)]
    if len(names) != len(value):
        raise InvalidConfig("a key that is not text", path=path)
    return {name: _sorted_value(value[name], path) for name in sorted(names)}


def _sorted_value(value: object, path: str | None) -> Value:
    check_time()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return _sorted_mapping(value, path)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_sorted_value(item, path) for item in value]
    raise InvalidConfig("a value that JSON does not know", path=path)


def _no_constant(_name: str) -> NoReturn:
    raise InvalidConfig("not valid JSON: NaN and Infinity are not numbers")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidConfig("a number that is out of range")
    return number


def _closing(text: str) -> str:
    """The brackets that would end a text cut off between two values; "" where nothing is open."""
    opened: list[str] = []
    for bracket in _STRING.sub("", text):
        if bracket in "{[":
            opened.append("}" if bracket == "{" else "]")
        elif bracket in "}]" and opened:
            opened.pop()
    return "".join(reversed(opened))
