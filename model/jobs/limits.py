"""How large a configuration may be, whatever it is written in.

Covered: depth, number of values, length of keys. The characters of an object are those of the body, which is bounded.
"""

import json
from collections.abc import Mapping

from model.errors import ConfigTooDeep, ConfigTooLarge, InvalidConfig

MAX_DEPTH = 64
#: Scalars, lists and mappings together.
MAX_NODES = 100_000
#: Keys become parts of paths, of which there are as many as values.
MAX_KEY_CHARACTERS = 1024
#: Of all scalars of a YAML text, each alias counted as what it stands for.
MAX_CHARACTERS = 4 * 1024 * 1024


def check_object(value: object) -> None:
    """Raises ConfigTooDeep or ConfigTooLarge for an object beyond what a text may hold: what follows recurses."""
    level = [value]
    nodes = 1
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                if any(len(key) > MAX_KEY_CHARACTERS for key in one if isinstance(key, str)):
                    raise ConfigTooLarge(f"a key of more than {MAX_KEY_CHARACTERS} characters")
                inner += one.values()
            elif isinstance(one, list | tuple):
                inner += one
        nodes += len(inner)
        if nodes > MAX_NODES:
            raise ConfigTooLarge(f"more than {MAX_NODES} values")
        if not inner:
            return
        level = inner
    raise ConfigTooDeep(f"nested deeper than {MAX_DEPTH} levels")


def check_json(text: str, parsed: object) -> None:
    """The same for a parsed JSON text; also refuses halves of surrogate pairs, which only JSON can spell."""
    check_object(parsed)
    if "\\u" in text:
        try:
            json.dumps(parsed, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidConfig("half of a surrogate pair") from None
