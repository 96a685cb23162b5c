"""`${{ matrix.* }}` and `${{ inputs.* }}` filled in, as far as the text tells their values.

Covered: paths of names, dotted or in brackets, in any case. Functions, operators and the contexts that only a run has
stay as they are written.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from model.jobs.github_format import Tree
from model.jobs.time_limit import check_time
from model.redact import is_secret_name, owner_inside, without_literal

#: A longer value would let a text grow without bound; it still stands where it was given.
MAX_INLINED = 1000

_PATH = r"((?:\.[A-Za-z_][\w-]*|\[\s*'[^']*'\s*\])+)"
_EXPRESSIONS = {name: re.compile(rf"\$\{{\{{\s*(?i:{name}){_PATH}\s*\}}\}}") for name in ("matrix", "inputs")}
#: What GitHub reads for an input that nobody gave.
_NOTHING = {"boolean": "false", "number": "0"}
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[\s*'([^']*)'\s*\]")


@dataclass(frozen=True)
class Filling:
    """The values of one of GitHub's contexts. unknown: names whose values only the run knows."""

    context: Literal["matrix", "inputs"]
    values: Mapping[str, Tree]
    unknown: frozenset[str] = frozenset()
    #: Every name that has no value is unknown too; else it is nothing, as GitHub reads it.
    others_unknown: bool = False

    def __call__(self, tree: Tree) -> Tree:
        """The tree with every expression of the context replaced; shares whatever holds none."""
        if self.others_unknown and not self.values:
            return tree
        check_time()
        if isinstance(tree, str):
            return self._text(tree) if "${{" in tree else tree
        if isinstance(tree, list):
            return [self(item) for item in tree]
        return {key: self(item) for key, item in tree.items()}

    def _text(self, text: str) -> Tree:
        expression = _EXPRESSIONS[self.context]
        whole = expression.fullmatch(text)
        if whole is not None:
            # Alone, an expression keeps its type: `runs-on: ${{ matrix.labels }}` may be a list.
            found = self._look_up(whole)
            return text if found is None else found
        return expression.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        found = self._look_up(match)
        return found if isinstance(found, str) and len(found) <= MAX_INLINED else match.group()

    def _look_up(self, match: re.Match[str]) -> "Tree | None":
        names = [dotted or quoted for dotted, quoted in _STEP.findall(match.group(1))]
        if names[0].lower() in map(str.lower, self.unknown):
            return None
        found = _property(dict(self.values), names[0])
        if found is None:
            return None if self.others_unknown else ""
        for name in names[1:]:
            found = _property(found, name) or ""
        return found


def inputs_of(called: Mapping[str, Tree], given: Tree) -> Filling:
    """What a called workflow knows of its inputs: literals of the call's `with`, and their own defaults.

    Secret-sounding ones stay expressions: where they are filled in, no name would tell what they are.
    """
    on = called.get("on", "")
    declared = _property(_property(on, "workflow_call") or "", "inputs") or ""
    values: dict[str, Tree] = {}
    for name, said in declared.items() if isinstance(declared, dict) else ():
        value = _property(given, name)
        if value is None:
            value = _property(said, "default")
        if value is None:
            kind = _property(said, "type")
            value = _NOTHING.get(kind, "") if isinstance(kind, str) else ""
        if isinstance(value, str) and "${{" not in value and not is_secret_name(name):
            values[name] = value
    return Filling("inputs", values, others_unknown=True)


def without_secrets(tree: Tree, key: str) -> Tree:
    """A value without what its key, or one inside of it, promises to be a secret."""
    if isinstance(tree, str):
        return without_literal(tree) if is_secret_name(key) else tree
    if isinstance(tree, list):
        return [without_secrets(item, key) for item in tree]
    return {inner: without_secrets(value, owner_inside(inner, key)) for inner, value in tree.items()}


def _property(tree: Tree, key: str) -> "Tree | None":
    """Expressions do not look at the case of names."""
    if not isinstance(tree, dict):
        return None
    if key in tree:
        return tree[key]
    return next((value for name, value in tree.items() if name.lower() == key.lower()), None)
