"""Job -> flat facts: numbers and strings by their path, and how often each word occurs.

Read from the masked content that the canonical text is rendered from, without its budget.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from model.jobs.graph import GRAPH, graph_features
from model.jobs.job import Job, Value
from model.jobs.time_limit import check_time
from model.text import ADDED_KEYS, masked_content

#: Words and word pairs are counted by this many hash buckets.
WORD_BUCKETS = 1 << 14

_MOST_CHARACTERS = 6000
#: Beyond this a number says nothing, and its sums would leave the range of a 32-bit float.
_LARGEST = 1e30
_MOST_KEYED = 60
_MOST_PLACED = 6
_SHORT = 80
_SHORT_NAME = 200
#: Of a path its end says what it is.
_LONGEST_PATH = 256
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,18}(?:\.\d+)?(?:[eE][+-]?\d{1,2})?(?![\w.])")
_KEYED_NUMBER = re.compile(
    r"([A-Za-z_][\w.\-]{0,40})[\s\"'=:,()\[\]{}]{1,4}(-?\d{1,18}(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)(?!\w)"
)
_DIGIT = re.compile(r"\d")
#: What a job's own name is called, the likeliest first.
_NAMED = ("task", "process", "rule", "tool", "program", "job_name", "job-name")
_PARTS_OF_NAME = re.compile(r"[/:]+")
_VERSION = re.compile(r"v?\d+(?:\.\d+)*\b")
#: One dot is that of a file's name.
_FEWEST_DOTS = 2
_WORD = re.compile(r"\w+")
_MASKS = str.maketrans("0123456789", "##########")


#: The path of a job's own name, without the names of what it belongs to: the same in another workflow.
OWN_NAME = "(own name)"


@dataclass(frozen=True)
class Facts:
    """numbers: path -> value. strings: path -> text, those of a list joined. words: bucket -> count."""

    numbers: Mapping[str, float]
    strings: Mapping[str, str]
    words: Mapping[int, int]


def facts_of(job: Job, content: Value | None = None) -> Facts:
    """The facts of a job, without its history. content: its `masked_content`, where that is at hand.

    Jobs of one canonical text have the same facts: nothing that it does not say, how a number was spelled or how long a
    masked secret is, may move an estimate.

    A list of numbers becomes its sum (`path+`), its largest (`path^`) and its length (`path*`). Numbers inside
    of short strings are kept by place (`path#0`; of a list's strings those of the first that has any), those of long
    strings and of lists by the word before them (`~word`). What the structure says is behind `graph: `, what the job
    itself is called `OWN_NAME`.
    """
    content = content or masked_content(job)
    assert isinstance(content, Mapping)
    numbers: dict[str, float] = {}
    strings: dict[str, str] = {}
    lists: dict[str, list[float]] = {}
    words: Counter[str] = Counter()
    leaves = 0
    for path, text in _leaves(content, ""):
        check_time()
        leaves += 1
        value = _number(text)
        if value is None:
            if path not in strings:
                strings[path] = text
            elif len(strings[path]) < _MOST_CHARACTERS:
                strings[path] += "|" + text
            for name, inside in _inside(path, text):
                numbers.setdefault(name, inside)
        elif "[]" in path:
            lists.setdefault(path, []).append(value)
        else:
            numbers.setdefault(path, value)
        words.update(_words(path, text))
    for path, values in lists.items():
        numbers[path + "+"], numbers[path + "^"], numbers[path + "*"] = sum(values), max(values), len(values)
    numbers["(leaves)"] = leaves
    numbers["(characters)"] = sum(map(len, strings.values()))
    numbers["(lines)"] = sum(text.count("\n") for text in strings.values())
    if name := _own_name(strings):
        strings[OWN_NAME] = name
        words.update([f"{OWN_NAME}={name}"])
    body = {key: value for key, value in content.items() if key not in ADDED_KEYS}
    for name, value in graph_features(body).items():
        if abs(value) <= _LARGEST:
            numbers[GRAPH + name] = value
    return Facts(numbers, strings, _bucketed(words))


def hashed(text: str) -> int:
    """32 bits that are the same on every machine."""
    return zlib.crc32(text.encode(errors="surrogatepass"))


def without_digits(text: str) -> str:
    """The text with every digit masked: equal for runs that differ in sizes and sample numbers only."""
    return re.sub("#+", "#", text.translate(_MASKS))


def _leaves(value: Value, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            # What the jobs of a workflow are called is its author's choice: they are read like a list.
            if key == "jobs" and isinstance(inner, Mapping):
                inner = tuple(inner.values())
            yield from _leaves(inner, f"{path}.{key}"[-_LONGEST_PATH:] if path else key)
    elif isinstance(value, str):
        yield path, value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path + "[]")


def _own_name(strings: Mapping[str, str]) -> str:
    """`NFCORE_CHIPSEQ:CHIPSEQ:FASTQC` -> `fastqc`; empty where a job has no name."""
    named = {path.rsplit(".", 1)[-1]: text for path, text in strings.items() if "[]" not in path}
    for field in _NAMED:
        for part in reversed(_PARTS_OF_NAME.split(named.get(field, "")[-_SHORT_NAME:])):
            if part and not _VERSION.match(part):
                return (part.rsplit(".", 1)[-1] if part.count(".") >= _FEWEST_DOTS else part).lower()
    return ""


def _number(text: str) -> float | None:
    return _usable(text) if len(text) < 25 and (text[0].isdigit() or text[0] in "-.") else None


def _usable(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None  # None for NaN too


def _inside(path: str, text: str) -> Iterator[tuple[str, float]]:
    if not _DIGIT.search(text, 0, _MOST_CHARACTERS):
        return
    if len(text) < _SHORT:
        for place, match in zip(range(_MOST_PLACED), _NUMBER.finditer(text), strict=False):
            if (value := _usable(match.group())) is not None:
                yield f"{path}#{place}", value
    if len(text) >= _SHORT or "[]" in path:
        keyed = _KEYED_NUMBER.finditer(text[:_MOST_CHARACTERS])
        for _, match in zip(range(_MOST_KEYED), keyed, strict=False):
            if (value := _usable(match[2])) is not None:
                yield f"~{match[1].lower()}", value


def _words(path: str, text: str) -> list[str]:
    """The words of a text, its word pairs behind the last name of its path, and a short text as a whole."""
    words: list[str] = _WORD.findall(text[:_MOST_CHARACTERS])
    pairs = map(" ".join, pairwise([path.rsplit(".", 1)[-1], *words]))
    return [*words, *pairs, *([f"{path}={text}"] if len(text) < _SHORT else [])]


def _bucketed(words: Mapping[str, int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for word, count in words.items():
        bucket = hashed(word) % WORD_BUCKETS
        counts[bucket] = counts.get(bucket, 0) + count
    return counts
