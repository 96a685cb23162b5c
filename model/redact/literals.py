"""Literals behind secret-sounding names: `password: x`, `API_KEY=x`, `--token x`, `<secret>x</secret>`.

A value that is a reference (`$TOKEN`, `${{ secrets.X }}`) holds no secret. How far a value goes depends on how it is
written: to its quote, to the end of a line that holds nothing else, over an indented block, or to the next blank.
"""

import re
from dataclasses import dataclass

from model.redact.marks import MASK
from model.redact.names import is_secret_name

#: Where in a text a name could stand: the rest is decided word by word.
_KEYWORD = re.compile(r"(?:pass|pwd|secret|token|cred|key|contrase|connection_?string)[\w.-]{0,40}+")
_OPERATOR = re.compile(
    r"((?:\\{0,3}[\"'`]\]?)?)"  # the end of a quoted name
    r"((?:\s?[:=]\s?\{?)?[\s,]{0,40}[\"']?\bvalue[\"']?\s?[:=]\s{0,4}"  # `name: DB_PASSWORD, value: x`
    r"|\s{0,8}(?:[:?+!|]?={1,2}>?|:)[ \t]{0,8}|>|\((?=\\{0,3}[\"'])"
    r"|,\s{0,8}(?=[\"']))"  # the next item of a list of arguments
)
#: Between a flag and its value, which may be the next item of a list.
_SPACED = re.compile(r"()(\n[ \t]{0,40}-[ \t]{1,4}|\s{1,4}|=)")
#: Begins with an expression, a variable or a command's output, perhaps after a scheme (`Bearer $TOKEN`).
_REFERENCE = re.compile(
    r"(?i)(?:(?:bearer|basic|token|digest|apikey|key)\s|[a-z_][\w-]{0,60}[=:])?[\"'\\]{0,4}"
    r"(?:\${1,2}[{(\[]|\{\{|<[\w -]{1,40}>|%\w{1,80}%|@[\w-]{1,40}@|\${1,2}[A-Za-z_]\w{0,80}(?![\w$!#%&*+]))"
)
_HARMLESS = re.compile(
    r"(?i)(?:true|false|yes|no|on|off|null|nil|none|undefined|read|write|inherit|required|optional|string|str"
    r"|int|bool|boolean|enabled|disabled|default|auto|always|never|empty|\d{1,3}|\W*"
    r"|(?-i:(?:~|\.{1,2})?/(?:[a-z_.-]{1,40}/){0,12}[a-z_.-]{1,60}))"
)
_QUOTED = re.compile(
    r"(?P<twice>''|\"\")(?=\w)(?P<doubled>(?:(?!(?P=twice))[^\n])++)"  # inside of a string of YAML
    r"|(?P<quote>[\"'`])(?P<plain>(?:[^\"'`\\\n]|\\.|(?!(?P=quote))[\"'`])*+)"
    r"|(?P<escape>\\{1,3}[\"'`])(?P<escaped>(?:(?!(?P=escape))[^\n])*+)"  # inside of a string of JSON
)
_FORMS = ("doubled", "plain", "escaped")
_WORD = re.compile(r"(?:[^\s\"'`,;&|<>)}\]]|,(?![\w.-]{0,40}[=:\s\"'])(?!$))+")
#: A line may end as it does in a string of JSON.
_BREAK = r"(?:\n|\\n)"
_IN_LINE = r"(?:[^\n\\]|\\(?!n))"
_LINE = re.compile(r"(?:[^\n\\#]|\\(?!n)|(?<!\s)#)++")
#: In `"password: a b"` the value ends where the quotes do.
_UNTIL = {quote: re.compile(rf"[^{quote}\n]+") for quote in "\"'"}
_ELEMENT = re.compile(r"[^<>\n]{1,400}+(?=</)")
#: Code, not a literal: `token = fetch(x)`.
_CALL = re.compile(r"[A-Za-z_][\w.]{0,80}[(\[]")
#: A block scalar of YAML: all that is indented as its first line is.
_BLOCK_HEAD = rf"[|>][+-]?\d?[ \t]*{_BREAK}([ \t]+)(?=\S)"
_BLOCK_BEGIN = re.compile(_BLOCK_HEAD)
_BLOCK = re.compile(rf"{_BLOCK_HEAD}{_IN_LINE}*+(?:{_BREAK}\1{_IN_LINE}*+)*")
#: A list of quoted items, or of a line each.
_LIST = re.compile(r"\[\s{0,8}(?=[\"'])([^\]\n]{1,400})\]|\n([ \t]*-[ \t]+)\S[^\n]*(?:\n\2[^\n]*)*")
_LINE_START = re.compile(rf"(?:\A|{_BREAK})[ \t]*(?:-[ \t]+)?(?:export[ \t]+)?[\"']?\Z")
#: Characters of a name looked at in front of the keyword, and of its line in front of the name.
_LOOK_BACK = 60
_INDENT = 40
#: Shorter values without quotes are rarely secrets.
_SHORTEST = 4


def without_literal(value: str) -> str:
    """The value of a secret-sounding name: masked, unless it is empty, a switch or a reference."""
    return value if all(_holds_none(line.strip()) for line in value.split("\n")) else MASK


def mask_assigned(text: str, lowered: str) -> str:
    """`text` without the literals behind secret-sounding names; `lowered` is the same in small letters."""
    kept: list[str] = []
    done = 0
    for match in _KEYWORD.finditer(lowered):
        named = _named(text, match.start(), match.end()) if match.start() >= done else None
        span = _value(text, named) if named is not None else None
        if span is not None and not _holds_none(text[slice(*span)].strip()):
            kept += [text[done : span[0]], MASK]
            done = span[1]
    return "".join([*kept, text[done:]]) if kept else text


def _holds_none(value: str) -> bool:
    return value == MASK or _HARMLESS.fullmatch(value) is not None or _REFERENCE.match(value) is not None


@dataclass(frozen=True)
class _Named:
    """A secret-sounding name at text[start:...] and the sign between it and what begins at `value`."""

    start: int
    flag: bool
    #: The name's own quotes are closed before the sign.
    closed: bool
    sign: str
    value: int


def _named(text: str, start: int, end: int) -> _Named | None:
    """The name around the keyword that stands at text[start:end]; None where it names no secret or has no value."""
    first = start
    while first > max(0, start - _LOOK_BACK) and (text[first - 1].isalnum() or text[first - 1] in "_-."):
        first -= 1
    if text[first - 1 : first] == "\\" and text[first] in "nrt":
        first += 1
    name = text[first:end].rstrip(".-")
    flag = name.startswith("-")
    end = first + len(name)
    operator = _OPERATOR.match(text, end) or (_SPACED.match(text, end) if flag else None)
    if operator is None or not is_secret_name(name):
        return None
    if operator[2].startswith(",") and not (flag or "value" in operator[2]):
        return None
    return _Named(first, flag, bool(operator[1]), operator[2], operator.end())


def _value(text: str, named: _Named) -> tuple[int, int] | None:
    """Where the value of a name stands; None where none is to be seen."""
    sign, before = named.sign.strip(), text[named.start - 1 : named.start]
    if sign == ">":
        element = _ELEMENT.match(text, named.value) if before == "<" else None
        return element.span() if element else None
    if sign == ":" and (begin := _BLOCK_BEGIN.match(text, named.value)):
        if _REFERENCE.match(text, begin.end()):
            return None  # before all of it is read
        block = _BLOCK.match(text, named.value)
        assert block is not None
        return block.start(1), block.end()
    if sign in (":", "=") and (items := _LIST.match(text, named.value)):
        return items.span(1) if items[1] else (items.start(2), items.end())
    if quoted := _QUOTED.match(text, named.value):
        span = quoted.span(next(form for form in _FORMS if quoted[form] is not None))
        return span if span[0] < span[1] else None
    if text[named.value : named.value + 1] in (*"{<([", *("-|" if named.flag else "")):
        return None  # before the value is read: a line of flags without values would be read again for each
    if _REFERENCE.match(text, named.value):
        return None  # likewise, and nothing is masked that would not be read again
    bare = _bare(text, named, before).match(text, named.value)
    if bare is None:
        return None
    value = bare[0].rstrip()
    if len(value) < _SHORTEST:
        return None
    return bare.start(), bare.start() + len(value)


def _bare(text: str, named: _Named, before: str) -> re.Pattern[str]:
    """How far a value without quotes of its own goes."""
    if named.sign.strip() != ":" and named.sign != " = ":
        return _WORD
    if before in _UNTIL and not named.closed:
        return _UNTIL[before]
    alone = _LINE_START.search(text[max(0, named.start - _INDENT) : named.start])
    return _LINE if alone and not _CALL.match(text, named.value) else _WORD
