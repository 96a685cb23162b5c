"""`strategy.matrix`: its combinations by GitHub's rule, and the names they give.

The rule (actions/runner, Sdk/WorkflowParser/Conversion/MatrixBuilder.cs): the product of the axes in their
written order, the last one fastest; an `exclude` entry drops what agrees with it in every value it names; an
`include` entry adds its other keys to each combination that agrees with it in every axis it names, and is a
combination of its own where none does. Texts are compared without regard to case.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from model.errors import ConfigTooLarge
from model.jobs.github_expressions import Filling, without_secrets
from model.jobs.github_format import Tree, invalid
from model.jobs.time_limit import check_time
from model.jobs.yaml_source import PlainNumber
from model.redact import mask_secrets

MAX_COMBINATIONS = 256  # GitHub's own limit per job
#: Combinations before `exclude`, times the entries each is compared with: bounds the work, far above real use
MAX_COMPARISONS = 400_000
MAX_NAME = 100  # GitHub cuts a generated name here


@dataclass(frozen=True)
class Title:
    """A job's `name:`, "" for none. computed: it is an expression, so that GitHub adds no values to it."""

    text: str
    computed: bool


@dataclass(frozen=True)
class Combination:
    """One expansion of a job. `named` are the values whose texts GitHub shows in the job's name."""

    values: Mapping[str, Tree]
    named: Mapping[str, Tree] = field(default_factory=dict)
    #: Keys whose values only the run itself knows (an axis given as an expression).
    unknown: frozenset[str] = frozenset()
    #: The whole matrix is an expression: nothing about it is known.
    all_unknown: bool = False

    def name(self, title: "Title", job_id: str) -> str:
        """The job's name as GitHub shows it."""
        return self._cut(self._whole_name(title, job_id), title)

    def shown_name(self, title: "Title", job_id: str) -> str:
        """The same without what no look at the name alone could find: values of secret-sounding keys, cut secrets."""
        name = self.masked._whole_name(title, job_id)
        return name if self._cut(name, title) == name else self._cut(mask_secrets(name), title)

    @cached_property
    def masked(self) -> "Combination":
        """The same without the values of secret-sounding keys, however deep: what it fills in may be shown."""
        values, named = (
            {key: without_secrets(value, key) for key, value in one.items()}
            for one in (self.values, self.named)
        )
        return replace(self, values=values, named=named)

    def _whole_name(self, title: "Title", job_id: str) -> str:
        if title.computed:
            filled = self.fill(title.text)
            return filled if isinstance(filled, str) and filled else job_id
        base = title.text or job_id
        named = ", ".join(_leaves(dict(self.named)))
        return f"{base} ({named})" if named else base

    def _cut(self, name: str, title: "Title") -> str:
        """GitHub cuts the names that it makes up, not those that are written."""
        made_up = self.named and not title.computed
        return name[: MAX_NAME - 3] + "..." if made_up and len(name) > MAX_NAME else name

    def fill(self, tree: Tree) -> Tree:
        """The tree with every `${{ matrix.* }}` replaced, as far as its value is known."""
        return Filling("matrix", self.values, self.unknown, others_unknown=self.all_unknown)(tree)


@dataclass(frozen=True)
class Expansion:
    """All combinations of one job, and whether the text alone tells them all."""

    combinations: tuple[Combination, ...]
    complete: bool = True


def expand(strategy: Tree, path: str) -> Expansion:
    """A job's `strategy` ("" for none) -> its combinations; without a matrix, one that has no values."""
    matrix = strategy.get("matrix", "") if isinstance(strategy, dict) else strategy
    if isinstance(matrix, str):
        if matrix and "${{" not in matrix:
            raise invalid("matrix is not a mapping", f"{path}.matrix")
        return Expansion((Combination({}, all_unknown=bool(matrix)),), complete=not matrix)
    if not isinstance(matrix, dict):
        raise invalid("matrix is not a mapping", f"{path}.matrix")
    return _expand_mapping(matrix, f"{path}.matrix")


def _expand_mapping(matrix: dict[str, Tree], path: str) -> Expansion:
    matrix = {key: _as_github_has_it(value) for key, value in matrix.items()}
    includes, known_includes = _entries(matrix, "include", path)
    excludes, known_excludes = _entries(matrix, "exclude", path)
    axes, unknown = _axes(matrix, path)
    product = math.prod(len(values) for values in axes.values()) if axes else 0
    if product * (1 + len(includes) + len(excludes)) > MAX_COMPARISONS:
        raise ConfigTooLarge("a matrix with too many combinations", path=path)
    found = list(itertools.islice(_combine(axes, includes, excludes), MAX_COMBINATIONS + 1))
    if len(found) > MAX_COMBINATIONS:
        raise invalid(f"a matrix of more than {MAX_COMBINATIONS} combinations", path)
    if not found:
        if known_includes and known_excludes:
            raise invalid("a matrix without a combination", path)
        return Expansion((Combination({}, all_unknown=True),), complete=False)
    combinations = tuple(
        Combination(values, {k: v for k, v in named.items() if k not in unknown}, unknown)
        for values, named in found
    )
    return Expansion(combinations, known_includes and known_excludes and not unknown)


def _entries(matrix: Mapping[str, Tree], key: str, path: str) -> tuple[list[dict[str, Tree]], bool]:
    """The entries of `include` or `exclude`, and whether they are all known."""
    value = matrix.get(key, "")
    if isinstance(value, str) and (not value or "${{" in value):
        return [], not value
    if not isinstance(value, list):
        raise invalid(f"{key} is not a list", f"{path}.{key}")
    entries: list[dict[str, Tree]] = []
    known = True
    for index, entry in enumerate(value):
        if isinstance(entry, str) and "${{" in entry:
            known = False
        elif not isinstance(entry, dict) or not entry:
            raise invalid(f"an {key} entry that is not a mapping with values", f"{path}.{key}[{index}]")
        else:
            entries.append(entry)
    return entries, known


def _axes(matrix: Mapping[str, Tree], path: str) -> tuple[dict[str, list[Tree]], frozenset[str]]:
    axes: dict[str, list[Tree]] = {}
    unknown: set[str] = set()
    for key, value in matrix.items():
        if key in ("include", "exclude"):
            continue
        if isinstance(value, str) and "${{" in value:
            axes[key] = [value]
            unknown.add(key)
        elif not isinstance(value, list) or not value:
            raise invalid("a matrix axis that is not a list with values", f"{path}.{key}")
        else:
            axes[key] = value
    return axes, frozenset(unknown)


def _combine(
    axes: Mapping[str, list[Tree]], includes: list[dict[str, Tree]], excludes: list[dict[str, Tree]]
) -> Iterator[tuple[dict[str, Tree], dict[str, Tree]]]:
    """Yields each combination: all its values, and those among them that GitHub puts into the name."""
    filters = [{key: value for key, value in entry.items() if key in axes} for entry in includes]
    placed = [False] * len(includes)
    for picked in itertools.product(*axes.values()) if axes else ():
        check_time()
        original = dict(zip(axes, picked, strict=True))
        if any(_agrees(entry, original) for entry in excludes):
            continue
        values = dict(original)
        for index, entry in enumerate(includes):
            if _agrees(filters[index], original):
                placed[index] = True
                values.update((key, value) for key, value in entry.items() if key not in axes)
        yield values, original
    for index, entry in enumerate(includes):
        if not placed[index]:
            own = {**filters[index], **entry}  # axes first, as GitHub names them
            yield own, own


def _agrees(wanted: Tree, actual: Tree) -> bool:
    """Does `actual` have every leaf of `wanted`? An empty leaf stands for nothing, as does a missing one."""
    if isinstance(wanted, dict):
        inside = actual if isinstance(actual, dict) else {}
        return all(_agrees(value, inside.get(key, "")) for key, value in wanted.items())
    if isinstance(wanted, list):
        items = actual if isinstance(actual, list) else []
        return all(
            _agrees(value, items[index] if index < len(items) else "") for index, value in enumerate(wanted)
        )
    return isinstance(actual, str) and wanted.lower() == actual.lower()


def _as_github_has_it(tree: Tree) -> Tree:
    """Numbers without quotes are numbers: `3.10` is 3.1, in names as in what is filled in."""
    if isinstance(tree, PlainNumber):
        return f"{float(tree):.15g}"
    if isinstance(tree, str):
        return tree
    if isinstance(tree, list):
        return [_as_github_has_it(item) for item in tree]
    return {key: _as_github_has_it(value) for key, value in tree.items()}


def _leaves(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        if tree:
            yield tree
        return
    for inner in tree.values() if isinstance(tree, dict) else tree:
        yield from _leaves(inner)
