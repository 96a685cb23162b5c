"""Whose jobs a table is about: the headline looks only at jobs whose author asked for something."""

from model.evaluation.scheduling.demand import Rows

ASKED = "asked"
ALL = "all"


def scopes_of(asked: Rows, known: Rows) -> dict[str, Rows]:
    """Scope -> the marked jobs [jobs] that can be measured; without the scopes that hold none."""
    found = {ASKED: asked & known, ALL: known}
    return {scope: rows for scope, rows in found.items() if rows.any()}
