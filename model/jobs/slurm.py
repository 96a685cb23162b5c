"""Slurm batch scripts: the `#SBATCH` directives become facts, the rest is the script."""

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from model.errors import InvalidConfig
from model.jobs.generic import clean, clean_context, read_generic, without_comments
from model.jobs.job import Job, Reading, Value
from model.jobs.time_limit import check_time

_SHORT = {
    "J": "job-name", "N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "p": "partition",
    "a": "array", "A": "account", "C": "constraint", "q": "qos", "w": "nodelist", "x": "exclude",
    "d": "dependency", "o": "output", "e": "error", "D": "chdir", "G": "gpus",
}  # fmt: skip
#: Say nothing about what the job needs.
_DROPPED = {"output", "error", "mail-user", "mail-type", "account", "comment", "open-mode"}
_TIME = re.compile(r"(?:(?P<d>\d{1,9})-)?(?P<a>\d{1,9})(?::(?P<b>\d{1,9}))?(?::(?P<c>\d{1,9}))?$")
#: shlex takes a time that grows with the square of a word's length.
MAX_DIRECTIVE = 4096
#: More digits than any number of cores, bytes or seconds has.
_MAX_DIGITS = 18
_UNITS = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def read_slurm(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """A batch script, or an object of options. Raises InvalidConfig with the line of a broken directive."""
    if not isinstance(config, str):
        (job,) = read_generic(kind, config, context).jobs
        asked = _requested({key: str(value) for key, value in config.items() if isinstance(value, str | int)})
        return Reading(jobs=(replace(job, requested={**job.requested, **asked}),))
    if not config.strip():
        raise InvalidConfig("an empty configuration")
    options: dict[str, str] = {}
    script = config.splitlines()
    for place, line in enumerate(script):
        check_time()
        if line.startswith("#SBATCH"):
            options.update(_directive(line[len("#SBATCH") :], place + 1))
            script[place] = ""
        elif line.strip() and not line.lstrip().startswith("#"):
            break  # Slurm itself stops reading directives at the first command
    name = options.get("job-name", "job")
    body: dict[str, Value] = {
        "script": clean(without_comments("\n".join(script)), "script"),
        "options": {key: options[key] for key in sorted(options) if key not in _DROPPED},
    }
    job = Job(
        kind=kind,
        scope="job",
        name=name,
        body=body,
        requested=_requested(options),
        context=clean_context(context),
    )
    return Reading(jobs=(job,))


def _directive(text: str, line: int) -> dict[str, str]:
    if len(text) > MAX_DIRECTIVE:
        raise InvalidConfig(f"an #SBATCH line of more than {MAX_DIRECTIVE} characters", line=line, column=8)
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        raise InvalidConfig("an #SBATCH line with an unclosed quote", line=line, column=8) from None
    found: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = _SHORT.get(word[1], word[1]), word[2:].lstrip("=")
            equals = "=" if value else ""
        else:
            raise InvalidConfig("an #SBATCH line that is not an option", line=line, column=8)
        if not equals and position < len(words) and not words[position].startswith("-"):
            value = words[position]
            position += 1
        found[name] = value
    return found


def _requested(options: Mapping[str, str]) -> dict[str, float]:
    requested: dict[str, float] = {}
    tasks = ("ntasks",) if "ntasks" in options else ("nodes", "ntasks-per-node")
    counts = [options[name] for name in ("cpus-per-task", *tasks) if name in options]
    # A node alone says nothing of its cores: what was asked for is then one task on each.
    if counts and all(count.isdecimal() and len(count) <= _MAX_DIGITS for count in counts):
        requested["cpu_cores"] = math.prod(map(float, counts))
    if memory := _bytes(options.get("mem", "")):
        requested["peak_memory_bytes"] = memory
    elif (each := _bytes(options.get("mem-per-cpu", ""))) and "cpu_cores" in requested:
        requested["peak_memory_bytes"] = each * requested["cpu_cores"]
    seconds = _seconds(options.get("time", ""))
    if seconds:
        requested["runtime_seconds"] = seconds
    return requested


def _bytes(size: str) -> float | None:
    """Megabytes unless it says otherwise; 0 stands for all that a node has, which nobody knows."""
    match = re.fullmatch(rf"(\d{{1,{_MAX_DIGITS}}})([KMGT]?)B?", size, re.I)
    return float(int(match[1]) * _UNITS[match[2].upper()]) or None if match else None


def _seconds(limit: str) -> float | None:
    """Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
    match = _TIME.match(limit)
    if not match:
        return None
    days, a, b, c = (int(match[group] or 0) for group in "dabc")
    if match["d"] is not None:
        return float(((days * 24 + a) * 60 + b) * 60 + c)
    if match["c"] is not None:
        return float((a * 60 + b) * 60 + c)
    return float(a * 60 + b)
