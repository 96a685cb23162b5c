"""Commands of a Tcl file: an SDC constraint file, OpenLane's config.tcl.

Covered: continuation lines, comments, `;`, quotes, braces and brackets over several lines, positions of what
is never closed. Not covered: substitution and control flow; `if {...} {...}` stays one command.
"""

import re
from dataclasses import dataclass, field

from model.errors import InvalidConfig
from model.jobs.eda_sections import UnfinishedError, remember
from model.jobs.time_limit import check_time

_SPECIAL = re.compile(r'[\\"{}\[\]\n;#]')
_COMMENT_LINE = re.compile(r"(?m)^[ \t]*#.*$")
_SET_ENV = re.compile(r"set ::env\((\w+)\) (.*)")
_APPEND_ENV = re.compile(r"l?append ::env\((\w+)\) (.*)")
_PARTNER = {'"': '"', "{": "}", "[": "]"}
_BLANK = re.compile(r"\s*")
_INDEX = re.compile(r"\[\d+\]")


@dataclass
class Settings:
    """config.tcl: `variables` of `::env`, and the other `commands`. Read-only once parsed."""

    variables: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)


@dataclass
class _Scan:
    """Where the scanner stands: start of the command, and the innermost open delimiters."""

    start: int = 0
    opened: list[tuple[str, int]] = field(default_factory=list)

    @property
    def innermost(self) -> str:
        return self.opened[-1][0] if self.opened else ""


def split_commands(text: str) -> list[str]:
    """One string per command, white space collapsed. Raises InvalidConfig with line and column."""
    scan = _Scan()
    commands: list[str] = []
    position = 0
    while match := _SPECIAL.search(text, position):
        check_time()
        at = match.start()
        position = _step(text, at, scan, commands)
    if scan.opened:
        error = _unbalanced(text, scan.opened[-1][1])
        closing = "".join(_PARTNER[character] for character, _ in reversed(scan.opened))
        raise UnfinishedError(error.message, closing, line=error.line or 1, column=error.column or 1)
    _add(commands, text[scan.start :])
    return commands


def _step(text: str, at: int, scan: _Scan, commands: list[str]) -> int:
    """Handle the special character at `at`; returns where to go on."""
    character = text[at]
    if character == "\\":
        return at + 2
    if character in "\n;" and not scan.opened:
        _add(commands, text[scan.start : at])
        scan.start = at + 1
    elif character == "#":
        if not scan.opened and _begins_at(text, scan.start, at):
            scan.start = _end_of_comment(text, at)
            return scan.start
    elif character == '"':
        _quote(text, at, scan)
    elif scan.innermost != '"':
        _bracket(text, at, scan)
    return at + 1


def _begins_at(text: str, start: int, at: int) -> bool:
    """Whether only white space lies between (found without copying, so that many `#` stay cheap)."""
    blank = _BLANK.match(text, start, at)
    return blank is not None and blank.end() == at


def _end_of_comment(text: str, at: int) -> int:
    """The end of a comment, which a backslash carries on to the next line."""
    end = text.find("\n", at)
    while end > 0 and text[end - 1] == "\\":
        end = text.find("\n", end + 1)
    return len(text) if end < 0 else end


def _quote(text: str, at: int, scan: _Scan) -> None:
    if scan.innermost == '"':
        scan.opened.pop()
    elif scan.innermost != "{" and (at == 0 or text[at - 1] in " \t\n;["):
        scan.opened.append(('"', at))  # a quote inside a word or inside braces is a plain character


def _bracket(text: str, at: int, scan: _Scan) -> None:
    character, innermost = text[at], scan.innermost
    if character == "{" or (character == "[" and innermost != "{"):
        scan.opened.append((character, at))
    elif character == "}":
        if innermost != "{":
            raise _unbalanced(text, at)
        scan.opened.pop()
    elif character == "]" and innermost == "[":
        scan.opened.pop()


def _unbalanced(text: str, at: int) -> InvalidConfig:
    line = text.count("\n", 0, at) + 1
    return InvalidConfig(
        "a quote, brace or bracket without its partner", line=line, column=at - text.rfind("\n", 0, at)
    )


def _add(commands: list[str], raw: str) -> None:
    if "\n" in raw:
        raw = _COMMENT_LINE.sub("", raw).replace("\\\n", " ")
    if command := " ".join(raw.split()):
        commands.append(command)


@remember
def parse_commands(text: str) -> list[str]:
    """The commands, with runs that differ only in a bus index written once: `... {data[*]}] x32`."""
    merged: list[list[str]] = []
    for command in split_commands(text):
        check_time()
        general = _INDEX.sub("[*]", command)
        if merged and merged[-1][0] == general and general != command:
            merged[-1].append(command)
        else:
            merged.append([general, command])
    return [run[1] if len(run) == 2 else f"{run[0]} x{len(run) - 1}" for run in merged]


@remember
def parse_settings(text: str) -> Settings:
    """Read config.tcl: the last `set` of a variable wins, `lappend` and `append` add to it."""
    settings = Settings()
    for command in split_commands(text):
        check_time()
        if match := _SET_ENV.fullmatch(command):
            settings.variables[match[1]] = _unquoted(match[2])
        elif match := _APPEND_ENV.fullmatch(command):
            before = settings.variables.get(match[1], "")
            settings.variables[match[1]] = f"{before} {_unquoted(match[2])}".strip()
        else:
            settings.commands.append(command)
    return settings


def _unquoted(word: str) -> str:
    """A value without its own quotes or braces."""
    if len(word) > 1 and (word[0], word[-1]) in (('"', '"'), ("{", "}")):
        return word[1:-1].strip()
    return word
