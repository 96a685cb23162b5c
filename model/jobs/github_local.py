"""Reusable workflows and composite actions handed in as `context.local_actions` (path -> text).

Neither a missing nor a broken one makes the workflow itself wrong: both end as warnings. GitHub's limits on
nesting hold, which also ends recursion.
"""

from collections import Counter
from collections.abc import Mapping

from model.errors import ConfigTooLarge, InvalidConfig
from model.jobs.github_body import ordered, steps_body
from model.jobs.github_format import Tree, check_step, read_tree, size_of

MAX_ACTION_DEPTH = 10  # composite actions inside composite actions
#: Size (see size_of) of a workflow once its actions are inlined, its calls followed, its matrices expanded.
MAX_EXPANDED_SIZE = 1_000_000


class Expanding:
    """What the reading of one workflow shares: its local files, its warnings and its budget."""

    def __init__(self, local_actions: object, repository: object) -> None:
        given = local_actions if isinstance(local_actions, Mapping) else {}
        self._given = {_tidy(str(path)): text for path, text in given.items()}
        self._own = f"{repository}/" if isinstance(repository, str) and repository else None
        self._trees: dict[str, dict[str, Tree] | None] = {}
        self._warnings: Counter[str] = Counter()
        self._size_left = MAX_EXPANDED_SIZE

    def warn(self, sentence: str) -> None:
        """Note something about the input that the caller should know; equal sentences are counted."""
        self._warnings[sentence] += 1

    def warnings(self) -> tuple[str, ...]:
        """All sentences in a fixed order, each once."""
        return tuple(
            sentence if times == 1 else f"{sentence} ({times} times)"
            for sentence, times in sorted(self._warnings.items())
        )

    def spend(self, tree: Tree, path: str, *, times: int = 1) -> None:
        """Take a tree's size from the budget. Raises ConfigTooLarge where expansion multiplies beyond it."""
        self._size_left -= size_of(tree) * times
        if self._size_left < 0:
            message = f"larger than {MAX_EXPANDED_SIZE} values once matrices and calls are expanded"
            raise ConfigTooLarge(message, path=path)

    def workflow(self, uses: str) -> dict[str, Tree] | None:
        """The reusable workflow that a job calls, unchecked; None (and a warning) where it cannot be had."""
        if not uses.startswith("."):
            if self._own is None or not uses.startswith(self._own):
                self.warn("a called workflow of another repository is not part of the input")
                return None
            uses = uses.removeprefix(self._own).partition("@")[0]
        return self._tree(_tidy(uses))

    def action(self, uses: str, path: str, depth: int = 1) -> dict[str, Tree]:
        """What a step's local action does: its steps, or how it runs; {} (and a warning) where unknown."""
        if depth > MAX_ACTION_DEPTH:
            self.warn(f"local actions nested deeper than {MAX_ACTION_DEPTH} levels were left out")
            return {}
        tree = self._tree(_tidy(uses))
        if tree is None:
            return {}
        runs = tree.get("runs", "")
        steps = runs.get("steps", "") if isinstance(runs, dict) else ""
        try:
            if not isinstance(runs, dict):
                raise InvalidConfig("an action without runs")
            self.spend(runs, path)
            if not isinstance(steps, list):
                return {"runs": ordered(runs)}
            for index, step in enumerate(steps):
                check_step(step, f"runs.steps[{index}]")
        except ConfigTooLarge:
            raise
        except InvalidConfig:
            self.warn("a local action in context.local_actions is broken")
            return {}
        return {"steps": steps_body(steps, lambda inner: self.action(inner, path, depth + 1))}

    def _tree(self, path: str) -> dict[str, Tree] | None:
        if path not in self._given:
            self.warn("a local action or workflow is not in context.local_actions")
            return None
        if path not in self._trees:
            try:
                self._trees[path] = read_tree(self._given[path])
            except InvalidConfig:
                self._trees[path] = None
        if self._trees[path] is None:
            self.warn("a local action or workflow in context.local_actions cannot be read")
        return self._trees[path]


def _tidy(path: str) -> str:
    """One spelling of a path: `./a/b/action.yml`, `a/b/` and `a/b` are the same action."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if parts and parts[-1] in ("action.yml", "action.yaml"):
        parts.pop()
    return "/".join(parts)
