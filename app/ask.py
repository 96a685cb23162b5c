"""What a client asks, checked against the checkpoint: targets, quantiles, known values, history."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from model.engines.base import Query
from model.errors import InvalidGiven, InvalidHistory, InvalidQuantile, UnknownTarget
from model.jobs.job import Job, Outcome
from model.jobs.limits import check_object
from model.targets import Target

DEFAULT_QUANTILES = (0.1, 0.5, 0.9)
#: The quantile that calibration needs.
MEDIAN = 0.5
MAX_QUANTILES = 32
MAX_HISTORY = 20
#: Quantiles are told apart to this many decimals.
QUANTILE_DECIMALS = 6


@dataclass(frozen=True)
class PastRun:
    """One entry of the client's history; `job` None means the whole workflow, or the only job."""

    values: Mapping[str, float | None]
    age_seconds: float
    same_config: bool | None = None
    status: str = "success"
    job: str | None = None


@dataclass(frozen=True)
class Ask:
    """One prediction request, free of HTTP. None stands for the default."""

    kind: str
    config: str | Mapping[str, object]
    job: str | None = None
    context: Mapping[str, object] = field(default_factory=dict)
    targets: Sequence[str] | None = None
    quantiles: Sequence[float] | None = None
    given: Mapping[str, float] = field(default_factory=dict)
    #: None: the client says nothing of past runs, and what is known of them may be used. Empty: there were none.
    history: Sequence[PastRun] | None = None
    deadline_ms: int | None = None
    #: The client's own name of the recurring job; None: worked out from the job.
    series: str | None = None
    #: Of the bytes that it came as, where they were read as one: equal bytes need not be read again.
    fingerprint: bytes | None = None
    #: The question as a whole, where this is what the memo kept of it: without config, context and history.
    whole: Callable[[], Awaitable["Ask"]] | None = field(default=None, compare=False, repr=False)


def asked(ask: Ask, known: Sequence[Target]) -> tuple[Query, tuple[float, ...]]:
    """What the engine is asked, still without a prompt, and the quantiles that the answer shows.

    Raises the error of whatever is wrong with the ask before its config was read.
    """
    quantiles = check_quantiles(ask.quantiles)
    check_given(ask.given, known)
    targets = check_targets(ask.targets, ask.given, known)
    check_history(ask.history or (), known)
    check_object(ask.config)
    check_object(ask.context)
    return Query((), targets, tuple(sorted({*quantiles, MEDIAN})), ask.given), quantiles


def check_targets(
    names: Sequence[str] | None, given: Mapping[str, float], known: Sequence[Target]
) -> tuple[str, ...]:
    """The targets to predict, in the checkpoint's order, without the given ones.

    Raises UnknownTarget, or InvalidGiven when nothing is left to predict.
    """
    wanted = [target.name for target in known] if names is None else list(names)
    if not set(wanted) <= {target.name for target in known}:
        raise UnknownTarget(f"unknown target; known: {_names(known)}")
    asked = tuple(target.name for target in known if target.name in wanted and target.name not in given)
    if not asked:
        raise InvalidGiven("every target asked for is given; nothing is left to predict")
    return asked


def check_quantiles(quantiles: Sequence[float] | None) -> tuple[float, ...]:
    """The quantiles, rounded and ascending. Raises InvalidQuantile."""
    if quantiles is None:
        return DEFAULT_QUANTILES
    rounded = sorted(round(quantile, QUANTILE_DECIMALS) for quantile in quantiles)
    if not 1 <= len(rounded) <= MAX_QUANTILES:
        raise InvalidQuantile(f"between 1 and {MAX_QUANTILES} quantiles can be asked for")
    if not 0 < rounded[0] <= rounded[-1] < 1:
        raise InvalidQuantile(f"a quantile lies strictly between 0 and 1, to {QUANTILE_DECIMALS} decimals")
    if len(set(rounded)) < len(rounded):
        raise InvalidQuantile(f"quantiles must differ in their first {QUANTILE_DECIMALS} decimals")
    return tuple(rounded)


def quantile_key(quantile: float) -> str:
    """The shortest decimal form: 0.1, 0.99, 0.00001."""
    return f"{quantile:.{QUANTILE_DECIMALS}f}".rstrip("0")


def check_given(given: Mapping[str, float], known: Sequence[Target]) -> None:
    """Raises InvalidGiven unless every name is a target and every value is possible for it."""
    signed = {target.name: target.signed for target in known}
    if not given.keys() <= signed.keys():
        raise InvalidGiven(f"a given value is of no target; known: {_names(known)}")
    for name, value in given.items():
        if not math.isfinite(value) or (value < 0 and not signed[name]):
            raise InvalidGiven(f"the given {name} must be finite and not negative")


def check_history(history: Sequence[PastRun], known: Sequence[Target]) -> None:
    """Raises InvalidHistory for what is wrong with it whatever the config holds."""
    if len(history) > MAX_HISTORY:
        raise InvalidHistory(f"at most {MAX_HISTORY} past runs can be sent")
    names = {target.name for target in known}
    youngest = 0.0
    for place, run in enumerate(history):
        if not run.values.keys() <= names:
            raise InvalidHistory(f"history[{place}] has a value of no target; known: {_names(known)}")
        values = [value for value in run.values.values() if value is not None]
        if not values:
            raise InvalidHistory(f"history[{place}] has no value")
        if any(not math.isfinite(value) or value < 0 for value in values):
            raise InvalidHistory(f"history[{place}] has a value that is negative or not finite")
        if not math.isfinite(run.age_seconds) or run.age_seconds < 0:
            raise InvalidHistory(f"history[{place}].age_seconds must be finite and not negative")
        if run.age_seconds < youngest:
            raise InvalidHistory(f"history[{place}] is younger than the one before it; newest come first")
        youngest = run.age_seconds


def attach_history(jobs: Sequence[Job], history: Sequence[PastRun]) -> list[Job]:
    """The jobs with their past runs. Raises InvalidHistory for a run that belongs to none of them."""
    if not history:
        return list(jobs)
    whole = next((place for place, job in enumerate(jobs) if job.scope == "workflow"), None)
    if whole is None and len(jobs) == 1:
        whole = 0
    runs: list[list[Outcome]] = [[] for _ in jobs]
    for entry, run in enumerate(history):
        place = whole if run.job is None else _place(jobs, run.job)
        if place is None:
            raise InvalidHistory(f"history[{entry}].job names none of the jobs that are predicted")
        values = {name: value for name, value in run.values.items() if value is not None}
        runs[place].append(Outcome(values, run.age_seconds, run.same_config, run.status == "success"))
    return [job.with_history(own) for job, own in zip(jobs, runs, strict=True)]


def _place(jobs: Sequence[Job], name: str) -> int | None:
    """Where the job of that name is; a job goes before a workflow of the same name."""
    places = [place for place, job in enumerate(jobs) if job.answers_to(name)]
    return min(places, key=lambda place: jobs[place].scope == "workflow", default=None)


def _names(targets: Sequence[Target]) -> str:
    return ", ".join(target.name for target in targets)
