"""Names of jobs as answers show them: without secrets, still different from each other."""

from dataclasses import replace

from model.jobs.job import Job, Reading
from model.redact import mask_secrets


def with_masked_names(reading: Reading) -> Reading:
    """The reading with secrets masked in every name and in every mention of it.

    Jobs whose names become equal get a number. Each goes on answering to the name that the config gives it, by which
    `needs` refer to it.
    """
    units = [*reading.jobs, *([reading.workflow] if reading.workflow else [])]
    masked = {_written(unit): mask_secrets(unit.name) for unit in units}
    elsewhere = dict.fromkeys(name for unit in units for name in unit.needs if name not in masked)
    masked |= {name: mask_secrets(name) for name in elsewhere}
    if all(name == shown for name, shown in masked.items()):
        return reading
    taken = {name for name, shown in masked.items() if name == shown}
    last: dict[str, int] = {}
    for name, shown in masked.items():
        if name != shown:
            masked[name] = _free(shown, taken, last)

    def renamed(job: Job) -> Job:
        written = _written(job)
        needs = tuple(masked[needed] for needed in job.needs)
        name = masked[written]
        return replace(job, name=name, needs=needs, written_name=written if name != written else None)

    workflow = renamed(reading.workflow) if reading.workflow else None
    return replace(reading, jobs=tuple(renamed(job) for job in reading.jobs), workflow=workflow)


def _written(job: Job) -> str:
    return job.name if job.written_name is None else job.written_name


def _free(shown: str, taken: set[str], last: dict[str, int]) -> str:
    """`shown`, numbered where that is taken; `last` keeps many equal names from a search each."""
    number, name = last.get(shown, 1), shown
    while name in taken:
        number += 1
        name = f"{shown} #{number}"
    last[shown] = number
    taken.add(name)
    return name
