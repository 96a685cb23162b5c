"""Hostile variations of a small corpus of configurations, each told by its number alone.

Bytes are flipped, dropped and repeated; lines are swapped, indented and multiplied; tokens that formats give a meaning
are put in; two files are crossed. Equal seeds give equal cases on every machine, so a run can go on where one ended.
"""

import random
from functools import cache
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"
#: Nothing grows beyond this, so that speed says something about the service and not about the wire.
MOST_CHARACTERS = 20_000
TOKENS = (
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        '"',
        "'",
        "`",
        "|",
        ">",
        "&a ",
        "*a",
        "<<: ",
        "!!python/object:x ",
        "? ",
        ": ",
        "- ",
    ),
    *(
        "%YAML 1.1\n",
        "---\n",
        "...\n",
        "#",
        "\\\n",
        "\\",
        "\t",
        "\r\n",
        "\0",
        "\ufeff",
        "\u2028",
        "\x85",
        "\U0001f600",
    ),
    *(
        "${{ matrix.x }}",
        "${{",
        "}}",
        "$(A)",
        "$(",
        "${",
        "ifdef X\n",
        "else\n",
        "endif\n",
        "define A\n",
        "endef\n",
    ),
    *(
        "include ",
        "export ",
        "+= ",
        ":= ",
        "#SBATCH ",
        "--mem=",
        "-t ",
        "9" * 400,
        "1e999",
        "-0",
        "NaN",
        "Infinity",
    ),
    *(
        "\\ud800",
        "\\u0000",
        "null",
        "true",
        "expr::",
        "dir::",
        "set ::env(A) ",
        "needs: ",
        "uses: ./a\n",
        "jobs:\n",
    ),
    *("password: hunter2\n", "ghp_" + "a" * 36, "2024-01-01T00:00:00Z", "0x7f", "1.1.1.1.1", "٣", "²"),
)


@cache
def corpus(kind: str) -> list[str]:
    """The seeds of a kind, in one order."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((CORPUS / kind).iterdir())]
    if not texts:
        raise FileNotFoundError(f"no seeds of kind {kind}")
    return texts


def mutated(kind: str, seed: int, number: int) -> str:
    """Case `number` of a kind: one of its seeds (or of another kind's) after a few changes."""
    rng = random.Random(f"{seed}/{kind}/{number}")
    text = rng.choice(corpus(kind))
    if rng.random() < 0.05:
        other = rng.choice(sorted(path.name for path in CORPUS.iterdir()))
        text = _crossed(text, rng.choice(corpus(other)), rng)
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8, 20))):
        text = rng.choice(_CHANGES)(text, rng)[:MOST_CHARACTERS]
    return text


def mutated_bytes(data: bytes, seed: int, number: int) -> bytes:
    """Case `number` of raw bytes: not necessarily UTF-8 any more."""
    rng = random.Random(f"{seed}/bytes/{number}")
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((0, 1, 1, 2, 8)))
        changed[start:end] = rng.choice(
            (b"", rng.randbytes(rng.choice((1, 2, 4))), bytes(changed[start:end]) * 2)
        )
    return bytes(changed)


def _span(text: str, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(text) + 1)
    return start, min(len(text), start + rng.choice((1, 2, 5, 20, 100)))


def _drop(text: str, rng: random.Random) -> str:
    start, end = _span(text, rng)
    return text[:start] + text[end:]


def _repeat(text: str, rng: random.Random) -> str:
    start, end = _span(text, rng)
    return text[:start] + text[start:end] * rng.choice((2, 3, 10, 300)) + text[end:]


def _move(text: str, rng: random.Random) -> str:
    start, end = _span(text, rng)
    rest = text[:start] + text[end:]
    place = rng.randrange(len(rest) + 1)
    return rest[:place] + text[start:end] + rest[place:]


def _insert_token(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(TOKENS) * rng.choice((1, 1, 1, 2, 70)) + text[place:]


def _replace_character(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    character = chr(rng.choice((rng.randrange(128), rng.randrange(0x2FFF), rng.randrange(0xE000, 0x10FFFF))))
    return text[:place] + character + text[place + 1 :]


def _swap_lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return "\n".join(lines)


def _repeat_line(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    lines[place:place] = [lines[place]] * rng.choice((1, 2, 64, 500))
    return "\n".join(lines)


def _indent_line(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    lines[place] = rng.choice((" ", "  ", "\t", "        ")) + lines[place].lstrip(rng.choice((" ", "")))
    return "\n".join(lines)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _nest(text: str, rng: random.Random) -> str:
    opening, closing = rng.choice(
        (("[", "]"), ("{a: ", "}"), ('{"a":', "}"), ("(", ")"), ('"', '"'), ("{", "}"))
    )
    start, end = _span(text, rng)
    depth = rng.choice((1, 3, 70, 2000))
    return text[:start] + opening * depth + text[start:end] + closing * depth + text[end:]


def _crossed(text: str, other: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


_CHANGES = (
    *(
        _drop,
        _repeat,
        _move,
        _insert_token,
        _insert_token,
        _replace_character,
        _swap_lines,
        _repeat_line,
        _indent_line,
    ),
    *(_cut, _nest),
)
