"""Job -> canonical text, fitted to a token budget.

Equal jobs give equal bytes. The text is indented lines `key: value` in the order of the job's body; secrets, hashes,
dates and home directories are masked (`model.redact`). Over the budget, long strings and long collections are
shortened in their middle, the longest first, and the amount left out is written in the gap: one cap for all leaves is
lowered until the text fits. There is no blind cut. What is larger than anything a budget could show is bounded before
the work: the middle of a string of over 131,072 characters is left out before it is masked, and the tokens of a text of
over 262,144 are counted in samples of it.

What is the same from run to run comes first and what changes last (the readers see to that), so that prompts of one
workflow share their prefix; being shortened, not standing late, is what costs information.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from model.jobs.job import Job, Value
from model.jobs.time_limit import check_time
from model.redact import is_secret_name, mask, owner_inside, without_literal

#: Raised whenever equal jobs may give other bytes than before; part of the checkpoint and of the cache key.
#: Masking more secrets is no new version: the text of a job without any stays as it is.
TEXT_VERSION = 1

#: Counts the tokens of a text.
TokenCounter = Callable[[str], int]

_SMALLEST_CAP = 8
#: What `masked_content` puts beside the job's body.
ADDED_KEYS = ("kind", "context")
#: Keys that say nothing about their value.
_ANONYMOUS = ("value", "default", "data", "values")
#: Collections whose keys are what an author calls jobs and services.
_NAMED_BY_AUTHOR = ("jobs", "services", "stages", "tasks", "rules")
_UNLIMITED = 1 << 62
#: Deeper than any content that is read.
_DEEPEST = 1000
#: A string keeps so many characters at each end; far more than any budget shows of it.
_KEPT_AT_ENDS = 65_536
#: Longer texts are counted in three samples that have so many characters together.
_COUNTED_WHOLE = 262_144
_LONGEST_KEY = 1024
#: Once the smallest cap is not enough, the structure is cut at these depths in turn.
_DEPTHS = (8, 6, 4, 3, 2, 1)


@dataclass(frozen=True)
class CanonicalText:
    """The text, and how many characters of the full text its gaps stand for."""

    text: str
    left_out_characters: int


def canonical_text(
    job: Job, token_budget: int, count_tokens: TokenCounter, content: Value | None = None
) -> CanonicalText:
    """Serialize a job into at most `token_budget` tokens. content: its `masked_content`, where that is at hand.

    Raises ValueError where not even the smallest form fits; a budget of 512 is enough for any job.
    """
    content = content or masked_content(job)
    rendering = _Rendering(content)
    full = rendering.text(_UNLIMITED)
    missing = _missing_from(content)
    if len(full) <= token_budget or (tokens := _tokens_of(full, token_budget, count_tokens)) <= token_budget:
        return CanonicalText(full, missing)
    wanted = len(full) * token_budget // tokens
    while wanted >= _SMALLEST_CAP:
        check_time()
        text = rendering.text(_cap_for(rendering, wanted))
        tokens = _tokens_of(text, token_budget, count_tokens)
        if tokens <= token_budget:
            return CanonicalText(text, max(len(full) - len(text), 1) + missing)
        if len(text) > wanted:  # the smallest cap leaves more than that
            break
        wanted = min(int(len(text) * 0.97 * token_budget / tokens), int(wanted * 0.97))
    for depth in _DEPTHS:
        text = rendering.text(_SMALLEST_CAP, depth)
        if count_tokens(text) <= token_budget:
            return CanonicalText(text, len(full) - len(text) + missing)
    raise ValueError("the token budget is too small for this job's smallest form")


def _tokens_of(text: str, budget: int, count_tokens: TokenCounter) -> int:
    """The tokens of a text; of a very long one what its samples say, where that is over the budget anyway."""
    if len(text) > _COUNTED_WHOLE:
        size = _COUNTED_WHOLE // 3
        middle = (len(text) - size) // 2
        samples = (text[:size], text[middle : middle + size], text[-size:])
        estimate = sum(map(count_tokens, samples)) * len(text) // (3 * size)
        if estimate > budget:
            return estimate
    return count_tokens(text)


def full_text(job: Job, content: Value | None = None) -> str:
    """The canonical text without a budget: what the tokenizer is trained on. content: as for `canonical_text`."""
    return _Rendering(content or masked_content(job)).text(_UNLIMITED)


def masked_content(job: Job) -> Value:
    """What the text is rendered from: nested mappings, lists and strings, secrets masked, empty values dropped."""
    # The name is the reader's to put into the body, where it says something: in front it would end the prefix
    # that jobs of one workflow share.
    content: dict[str, Value] = {"kind": f"{job.kind} {job.scope}", **job.body}
    if job.context:
        content["context"] = job.context
    return _masked(content)


def _cap_for(rendering: "_Rendering", wanted: int) -> int:
    """The largest cap under which the text has at most `wanted` characters (or the smallest cap)."""
    low, high = _SMALLEST_CAP, wanted
    while low < high:
        middle = (low + high + 1) // 2
        if len(rendering.text(middle)) <= wanted:
            low = middle
        else:
            high = middle - 1
    return low


def _masked(value: Value, key: str = "") -> Value:
    """The same structure with every string masked and every number in one spelling; empty values dropped.

    key: what the value belongs to; a literal behind a secret-sounding one is masked whatever it looks like.
    """
    check_time()
    if isinstance(value, str):
        text = _WithoutMiddle.of(value) if len(value) > 2 * _KEPT_AT_ENDS else _masked_text(value)
        return without_literal(text) if key and is_secret_name(key) else text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return without_literal(_number(value)) if key and is_secret_name(key) else _number(value)
    if value is None:
        return None
    if isinstance(value, Mapping):
        items = (
            (mask(_writable(_shortened(k, _LONGEST_KEY))), _masked(v, _owner(str(k), key, value)))
            for k, v in value.items()
        )
        return {k: v for k, v in items if v not in (None, "", {}, [])}
    return [v for v in _masked_items(value, key) if v not in (None, "", {}, [])]


def _owner(key: str, above: str, siblings: Mapping[str, Value]) -> str:
    """The name that says what a mapping's value is: `{name: DB_PASSWORD, value: x}`, `password: {value: x}`."""
    if above in _NAMED_BY_AUTHOR and isinstance(siblings[key], Mapping):
        return ""  # a job may be called `secrets`
    if key not in _ANONYMOUS:
        return owner_inside(key, above)
    named = siblings.get("name", siblings.get("key"))
    return named if isinstance(named, str) else above


def _masked_items(values: Sequence[Value], key: str) -> Iterator[Value]:
    """A list's items; one that follows the flag `--password` belongs to it."""
    flag = ""
    for value in values:
        yield _masked(value, flag or key)
        flag = value if isinstance(value, str) and value.startswith("-") and "=" not in value else ""


def _masked_text(text: str) -> str:
    return mask(_writable(text).replace("\r", "").strip())


class _WithoutMiddle(str):
    """The masked ends of a very long string; `missing` characters stood between them, at `seam`."""

    __slots__ = ("missing", "seam")
    missing: int
    seam: int

    @classmethod
    def of(cls, text: str) -> "_WithoutMiddle":
        head, tail = _masked_text(text[:_KEPT_AT_ENDS]), _masked_text(text[-_KEPT_AT_ENDS:])
        made = cls(head + tail)
        made.missing, made.seam = len(text) - 2 * _KEPT_AT_ENDS, len(head)
        return made


def _missing_from(content: Value) -> int:
    """How many characters the content's strings lack in their middles."""
    if isinstance(content, str):
        return content.missing if isinstance(content, _WithoutMiddle) else 0
    if isinstance(content, Mapping):
        return sum(map(_missing_from, content.values()))
    return sum(map(_missing_from, content)) if isinstance(content, Sequence) else 0


def _writable(text: str) -> str:
    """Without halves of surrogate pairs: JSON can spell them, and no tokenizer can read them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    """Whole numbers without a point (JSON clients send 4.0 for 4), others to six significant digits."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.6g}"
    return str(int(value))


#: A value, its indent, the caps on strings and collections, the depth that is left -> its lines.
_Lines = Callable[[Value, str, int, int, int], list[str]]


class _Rendering:
    """A content that is rendered under one cap after the other.

    What a cap does not touch reads the same under each: the lines of a collection in which nothing is longer than the
    cap are made once. They are kept for the outermost such collection, not again for those inside of it.
    """

    def __init__(self, content: Value) -> None:
        self._content = content
        self._extents: dict[int, tuple[int, int]] = {}
        self._whole: dict[tuple[int, str], list[str]] = {}
        self._keeping = True
        self._measure(content)

    def text(self, cap: int, depth: int = _DEEPEST) -> str:
        """Under a cap on the characters of strings, and on the depth of collections."""
        return "\n".join(self._lines(self._content, "", cap, _items_under(cap), depth))

    def _measure(self, value: Value) -> tuple[int, int]:
        """The longest string or key in a value, and its largest collection."""
        if isinstance(value, str):
            # One that lacks its middle is never whole.
            return (_UNLIMITED if isinstance(value, _WithoutMiddle) else len(value)), 0
        if isinstance(value, Mapping):
            inside = [self._measure(inner) for inner in value.values()]
            inside.append((max(map(len, value), default=0), len(value)))
        elif isinstance(value, Sequence):
            inside = [self._measure(inner) for inner in value]
            inside.append((0, len(value)))
        else:
            return len(str(value)), 0
        extent = max(longest for longest, _ in inside), max(largest for _, largest in inside)
        self._extents[id(value)] = extent
        return extent

    def _lines(self, value: Value, indent: str, cap: int, items: int, depth: int) -> list[str]:
        return self._kept(self._made, value, indent, cap, items, depth)

    def _kept(self, make: _Lines, value: Value, indent: str, cap: int, items: int, depth: int) -> list[str]:
        """What `make` makes of a value; of a collection that the cap does not touch as it was made before."""
        longest, largest = self._extents.get(id(value), (_UNLIMITED, 0))
        if not self._keeping or longest > cap or largest > items or depth < _DEEPEST // 2:
            return make(value, indent, cap, items, depth)
        place = id(value), indent
        if place not in self._whole:
            self._keeping = False
            self._whole[place] = make(value, indent, cap, items, depth)
            self._keeping = True
        return self._whole[place]

    def _made(self, value: Value, indent: str, cap: int, items: int, depth: int) -> list[str]:
        found: list[str] = []
        if isinstance(value, Mapping):
            entries = list(value.items())
            head, gap, tail = _middle_out(len(entries), items)
            for key, inner in entries[:head]:
                found += self._entry(f"{indent}{_shortened(key, cap)}:", inner, indent, cap, items, depth)
            if gap:
                found.append(f"{indent}…{gap}…")
            for key, inner in entries[len(entries) - tail :]:
                found += self._entry(f"{indent}{_shortened(key, cap)}:", inner, indent, cap, items, depth)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            head, gap, tail = _middle_out(len(value), items)
            for inner in value[:head]:
                found += self._kept(self._item, inner, indent, cap, items, depth)
            if gap:
                found.append(f"{indent}…{gap}…")
            for inner in value[len(value) - tail :]:
                found += self._kept(self._item, inner, indent, cap, items, depth)
        else:
            text = value if isinstance(value, str) else str(value)
            found += [indent + line for line in _shortened(text, cap).split("\n")]
        return found

    def _entry(self, label: str, value: Value, indent: str, cap: int, items: int, depth: int) -> list[str]:
        """One labelled value: on the label's line where it is short and flat, below it and indented otherwise."""
        check_time()
        if isinstance(value, str):
            short = _shortened(value, cap)
            if "\n" not in short:
                return [f"{label} {short}"]
        elif isinstance(value, Sequence) and all(isinstance(v, str) and "\n" not in v for v in value):
            head, gap, tail = _middle_out(len(value), items)
            first = [_shortened(v, cap) for v in value[:head] if isinstance(v, str)]
            last = [_shortened(v, cap) for v in value[len(value) - tail :] if isinstance(v, str)]
            middle = [f"…{gap}…"] if gap else []
            return [f"{label} [{', '.join([*first, *middle, *last])}]"]
        if depth <= 1 and not isinstance(value, str):
            return [f"{label} …{len(value) if isinstance(value, Sequence | Mapping) else 1}…"]
        return [label, *self._lines(value, indent + " ", cap, items, depth - 1)]

    def _item(self, value: Value, indent: str, cap: int, items: int, depth: int) -> list[str]:
        """One list item: a mapping's first entry stands on the line of the dash."""
        if not isinstance(value, Mapping) or depth <= 1:
            return self._entry(f"{indent}-", value, indent, cap, items, depth)
        inner = indent + "  "
        first, *others = self._lines(value, inner, cap, items, depth - 1)
        return [f"{indent}- {first[len(inner) :]}", *others]


def _items_under(cap: int) -> int:
    """A collection may keep one item per eight characters that a string may keep."""
    return max(cap // 8, 2)


def _middle_out(length: int, keep: int) -> tuple[int, int, int]:
    """How many items to keep in front, leave out, and keep at the end."""
    if length <= keep:
        return length, 0, 0
    tail = keep // 2
    return keep - tail, length - keep, tail


def _shortened(text: str, cap: int) -> str:
    """At most about `cap` characters of `text`, cut out of its middle at blanks where some are near."""
    missing = text.missing if isinstance(text, _WithoutMiddle) else 0
    if len(text) <= cap and not missing:
        return text
    head, _, tail = _middle_out(len(text), min(cap, len(text) - 1))
    if isinstance(text, _WithoutMiddle):  # has its gap there, however much is asked for
        head, tail = min(head, text.seam), min(tail, len(text) - text.seam)
    near = min(cap, len(text)) // 8
    start, end = head, len(text) - tail
    for blank in ("\n", " "):
        before = text.rfind(blank, head - near, head)
        if before > 0:
            start = before
            break
    for blank in ("\n", " "):
        after = text.find(blank, end, end + near)
        if after >= 0:
            end = after + 1
            break
    return f"{text[:start].rstrip()} …{end - start + missing}… {text[end:].lstrip()}"
