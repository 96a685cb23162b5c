"""Variables of a GNU make fragment such as ORFS' config.mk.

Covered: continuation lines, comments, `export`, every assignment operator, `define`, conditionals (kept under
their condition, since a reader cannot know which branch runs), `include`. Rules and their recipes are read
over: they do not set variables. Not covered: expansion of `$(...)`, which needs files and the environment.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from model.errors import ConfigTooDeep, InvalidConfig
from model.jobs.eda_sections import remember
from model.jobs.time_limit import check_time

MAX_CONDITIONS = 64

_ASSIGNMENT = re.compile(
    r"(?:(?:export|override|private)\s+)*([^\s:#=?+!]+)\s*(=|\?=|\+=|!=|:{1,3}=)\s*(.*)", re.DOTALL
)
_INCLUDE = re.compile(r"(?:-include|sinclude|include)\s+(\S.*)", re.DOTALL)
_DEFINE = re.compile(r"(?:override\s+)?define\s+([^\s=:?+!]+)")
_CONDITION = re.compile(r"(?:ifeq|ifneq|ifdef|ifndef)\b.*", re.DOTALL)
#: Lines that set nothing of interest: exports of names, search paths, calls, rules.
_WITHOUT_VARIABLE = re.compile(r"(?:export|unexport|undefine|vpath)\b.*|\$[({].*|[^\s:=][^:=]*:.*", re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)#.*", re.DOTALL)


@dataclass
class Variables:
    """`plain` variables; `conditional` ones by their condition; names of `included` files.

    Read-only once parsed.
    """

    plain: dict[str, str] = field(default_factory=dict)
    conditional: dict[str, dict[str, str]] = field(default_factory=dict)
    included: list[str] = field(default_factory=list)

    def assign(self, condition: str, name: str, operator: str, value: str) -> None:
        """Carry out one assignment: the last one wins, `+=` appends, `?=` only fills a gap."""
        scope = self.conditional.setdefault(condition, {}) if condition else self.plain
        if operator == "+=" and name in scope:
            scope[name] = f"{scope[name]} {value}".strip()
        elif operator == "+=" and condition:
            scope[name] = f"+= {value}"  # appends to what stands outside the condition
        elif operator != "?=" or name not in scope:
            scope[name] = value

    def overridden_by(self, other: "Variables") -> "Variables":
        """These variables, then those of a file that includes this one and goes on."""
        merged = Variables(dict(self.plain), {k: dict(v) for k, v in self.conditional.items()})
        merged.plain.update(other.plain)
        for condition, scope in other.conditional.items():
            merged.conditional.setdefault(condition, {}).update(scope)
        merged.included = [*self.included, *other.included]
        return merged


def variables_from_object(values: Mapping[str, str]) -> Variables:
    """The same from an object of names and values."""
    return Variables(plain=dict(values))


@remember
def parse_makefile(text: str) -> Variables:
    """Read a make fragment. Raises InvalidConfig with the line."""
    parsed = Variables()
    conditions: list[str] = []
    in_rule = False
    lines = iter(_logical_lines(text))
    condition = ""
    for number, raw in lines:
        check_time()
        line = " ".join(_COMMENT.sub("", raw).split())
        if not line or (in_rule and raw.lstrip(" ").startswith("\t")):
            continue
        if _follow_condition(line, number, conditions):
            condition = " and ".join(conditions)
            continue
        in_rule = False
        if define := _DEFINE.fullmatch(line):
            parsed.assign(condition, define[1], "=", _definition_body(lines, number))
        elif assignment := _ASSIGNMENT.fullmatch(line):
            parsed.assign(condition, assignment[1], assignment[2], assignment[3])
        elif include := _INCLUDE.fullmatch(line):
            # White space inside $(...) separates no names.
            parsed.included.extend([include[1]] if "$" in include[1] else include[1].split())
        elif _WITHOUT_VARIABLE.fullmatch(line):
            in_rule = not line.startswith(("export", "unexport", "$"))
        else:
            raise InvalidConfig(
                "a makefile line that is no assignment, directive or rule", line=number, column=1
            )
    if conditions:
        raise InvalidConfig("a makefile condition without its endif", line=text.count("\n") + 1)
    return parsed


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their first line's number, continuations joined."""
    joined: list[tuple[int, str]] = []
    parts: list[str] = []
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        check_time()
        if not parts:
            start = number
        stripped = line.rstrip()
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
        else:
            joined.append((start, " ".join([*parts, stripped])))
            parts = []
    if parts:
        joined.append((start, " ".join(parts)))
    return joined


def _follow_condition(line: str, number: int, conditions: list[str]) -> bool:
    """Open, turn or close a condition; says whether the line was one."""
    if _CONDITION.fullmatch(line):
        if len(conditions) >= MAX_CONDITIONS:
            raise ConfigTooDeep(f"conditions nested deeper than {MAX_CONDITIONS} levels", line=number)
        conditions.append(line)
        return True
    word, _, rest = line.partition(" ")
    if word not in ("else", "endif"):
        return False
    if not conditions:
        raise InvalidConfig("a makefile else or endif without its condition", line=number, column=1)
    if word == "endif":
        conditions.pop()
    elif rest.strip():
        conditions[-1] = rest.strip()
    elif conditions[-1].startswith("not "):
        raise InvalidConfig("a makefile condition with a second else", line=number, column=1)
    else:
        conditions[-1] = f"not {conditions[-1].split(' else ')[0]}"
    return True


def _definition_body(lines: Iterator[tuple[int, str]], start: int) -> str:
    body: list[str] = []
    for _, raw in lines:
        if raw.strip() == "endef":
            return " ".join(" ".join(body).split())
        body.append(raw)
    raise InvalidConfig("a makefile define without its endef", line=start, column=1)
