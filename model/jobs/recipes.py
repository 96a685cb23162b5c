"""Package recipes (Spack's package.py, BitBake's .bb): only what says something about the build.

Versions, checksums, mirrors, people and licences fill most of a recipe and say little about the work. They are dropped
by statement, not by a parser: recipes come in every dialect, and what is not recognised stays.
"""

import re
from collections.abc import Iterator, Mapping

from model.jobs.generic import parse_mapping, read_generic
from model.jobs.job import Reading
from model.jobs.time_limit import check_time

_SPACK_DROPPED = re.compile(
    r"\s*(?:version|maintainers|license|patch|conflicts|import|from|homepage|list_url|list_depth|url|git|tags"
    r"|test_requires_compiler|executables|sanity_check_\w+|depends_on|variant|provides|requires)\b"
)
_BITBAKE_DROPPED = re.compile(
    r"\s*(?:LIC_FILES_CHKSUM|LICENSE|HOMEPAGE|BUGTRACKER|UPSTREAM_\w+|SRC_URI\[|SRCREV|PR\s*=|CVE_\w+|MAINTAINER)"
)
_DEPENDENCY = re.compile(r"""^[^\S\n]*depends_on\(\s*["']([\w-]+)""", re.M)
_VARIANT = re.compile(r"""^[^\S\n]*variant\(\s*["']([\w-]+)""", re.M)
_VERSION = re.compile(r"^[^\S\n]*version\(", re.M)
_DOCSTRING = re.compile(r'[rRuU]?("""|\'\'\').*?\1', re.S)


def read_spack(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """A Spack CI build: package, compiler, architecture and the package's recipe."""
    task = parse_mapping(config) if isinstance(config, str) else config
    recipe = task.get("recipe")
    if isinstance(recipe, str):
        kept = list(_statements(_DOCSTRING.sub("", recipe), _SPACK_DROPPED, opening="([", closing=")]"))
        task = {
            **task,
            "depends_on": " ".join(dict.fromkeys(_DEPENDENCY.findall(recipe))),
            "variants": " ".join(dict.fromkeys(_VARIANT.findall(recipe))),
            "versions": len(_VERSION.findall(recipe)),
            "recipe": "\n".join(kept),
        }
    return read_generic(kind, task, context)


def read_bitbake(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """A BitBake task: recipe name, task and the recipe's text."""
    task = parse_mapping(config) if isinstance(config, str) else config
    recipe = task.get("recipe_text")
    if isinstance(recipe, str):
        joined = re.sub(r"\\\n\s*", " ", recipe)
        task = {
            **task,
            "recipe_text": "\n".join(_statements(joined, _BITBAKE_DROPPED, opening="", closing="")),
        }
    return read_generic(kind, task, context)


def _statements(text: str, dropped: re.Pattern[str], opening: str, closing: str) -> Iterator[str]:
    """Lines of text without the dropped statements, whose brackets may run over several lines."""
    depth = 0
    dropping = False
    for line in text.splitlines():
        check_time()
        if depth <= 0:
            depth, dropping = 0, dropped.match(line) is not None
        if dropping:
            depth += sum(line.count(c) for c in opening) - sum(line.count(c) for c in closing)
        else:
            yield line
