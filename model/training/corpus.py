"""The corpus of measured jobs, and what each job's earlier runs took.

    <directory>/<source>.jsonl.xz --load--> Records --HistoryIndex--> past Outcomes of the same job

Training builds the index from `train` records alone; evaluation from all of them, as a running service would.
What the fields mean and where the traps are: README.md of the corpus.
"""

import hashlib
import json
import lzma
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model.jobs.job import Outcome, Scope

SPLITS = ("train", "val", "test_seen", "test_unseen")
_SUFFIX = ".jsonl.xz"
_REPOSITORY = Path(__file__).resolve().parents[2]


class CorpusMissing(FileNotFoundError):
    """No corpus where it was looked for; the message says where, and how to name another place."""


@dataclass(frozen=True, slots=True)
class Record:
    """One measured run. `config` and `context` are exactly what a client would send before it.

    `targets` holds only what was measured, in the units of its names.
    `key` names the recurring job; `date` is ISO 8601 of any precision and orders the runs of a key.
    """

    id: str
    source: str
    family: str
    kind: str
    group: str
    key: str | None
    date: str | None
    config: str | dict[str, object]
    context: dict[str, object]
    targets: dict[str, float]
    split: str


def corpus_directory() -> Path | None:
    """$JOBCAST_DATA (whether it exists or not: `load` says so), else ../shared/data beside the repository."""
    if named := os.environ.get("JOBCAST_DATA"):
        return Path(named)
    beside = _REPOSITORY.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def load(
    directory: Path, sources: Iterable[str] | None = None, splits: Iterable[str] | None = None
) -> list[Record]:
    """All records of the sources and splits (default: all), by source name, then in file order.

    Raises CorpusMissing where there is no corpus, ValueError for a source or split that it does not have.
    """
    files = {path.name.removesuffix(_SUFFIX): path for path in sorted(directory.glob(f"*{_SUFFIX}"))}
    if not files:
        raise CorpusMissing(f"no *{_SUFFIX} in {directory}: set JOBCAST_DATA to the corpus directory")
    wanted = sorted(files) if sources is None else sorted(set(sources))
    if unknown := [name for name in wanted if name not in files]:
        raise ValueError(f"the corpus has no source {', '.join(unknown)}; it has {', '.join(files)}")
    kept = frozenset(SPLITS if splits is None else splits)
    if strange := sorted(kept.difference(SPLITS)):
        raise ValueError(f"no split is called {', '.join(strange)}; there are {', '.join(SPLITS)}")
    return [record for name in wanted for record in _read(files[name], kept)]


def _read(path: Path, splits: frozenset[str]) -> Iterator[Record]:
    # Runs of one job share their text: keeping one copy of it halves the memory of the corpus.
    texts: dict[str, str] = {}
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            if raw["split"] not in splits:
                continue
            config = raw["config"]
            yield Record(
                id=raw["id"],
                source=raw["source"],
                family=raw["family"],
                kind=raw["kind"],
                group=raw["group"],
                key=raw.get("key"),
                date=raw.get("date"),
                config=texts.setdefault(config, config) if isinstance(config, str) else config,
                context=raw.get("context") or {},
                targets={name: float(v) for name, v in raw["targets"].items() if v is not None},
                split=raw["split"],
            )


def scope_of(record: Record) -> Scope:
    """What was measured: `gha` timed whole workflow runs, everything else single jobs."""
    return "workflow" if record.source == "gha" else "job"


def config_fingerprint(record: Record) -> str:
    """Equal for two records exactly when kind and config are equal, whatever the order of mapping keys."""
    text = json.dumps([record.kind, record.config], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def timestamp_of(date: str) -> float:
    """Epoch seconds of an ISO 8601 date of any precision: a bare date is its start, no zone is UTC."""
    moment = datetime.fromisoformat(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class HistoryIndex:
    """Past outcomes by source and key, in order of time. Records without key, date or targets stay out."""

    def __init__(
        self, records: Iterable[Record], *, fingerprint: Callable[[Record], str] = config_fingerprint
    ) -> None:
        self._fingerprint = fingerprint
        # By identity, each beside its record so that the identity stays taken: a large config takes a millisecond.
        self._known: dict[int, tuple[Record, str]] = {}
        runs: defaultdict[tuple[str, str], list[tuple[float, Record]]] = defaultdict(list)
        for record in records:
            if record.key is not None and record.date is not None and record.targets:
                runs[record.source, record.key].append((timestamp_of(record.date), record))
        self._times: dict[tuple[str, str], list[float]] = {}
        self._runs: dict[tuple[str, str], list[tuple[str, Mapping[str, float]]]] = {}
        for key, past in runs.items():
            past.sort(key=lambda run: run[0])  # stable: equal times keep the order of the file
            self._times[key] = [time for time, _ in past]
            self._runs[key] = [(self._print_of(record), record.targets) for _, record in past]

    def _print_of(self, record: Record) -> str:
        if id(record) not in self._known:
            self._known[id(record)] = record, self._fingerprint(record)
        return self._known[id(record)][1]

    def history_of(self, record: Record, *, limit: int = 5) -> tuple[Outcome, ...]:
        """At most `limit` outcomes of the same source and key dated strictly earlier, newest first."""
        if record.key is None or record.date is None:
            return ()
        key = (record.source, record.key)
        times = self._times.get(key, [])
        now = timestamp_of(record.date)
        # Equal times are not earlier: that also keeps a record out of its own history.
        end = bisect_left(times, now)
        start = max(0, end - limit)
        if start == end:
            return ()
        own = self._print_of(record)
        runs = self._runs[key]
        return tuple(
            Outcome(values=runs[i][1], age_seconds=now - times[i], same_config=runs[i][0] == own)
            for i in range(end - 1, start - 1, -1)
        )


class Histories:
    """What is known of a job's past in training: `train` records know `train` records alone, those of other splits all
    that are dated earlier, as a running service would.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        records = list(records)
        self._train = HistoryIndex(record for record in records if record.split == "train")
        self._every = HistoryIndex(records)

    def history_of(self, record: Record, *, limit: int = 5) -> tuple[Outcome, ...]:
        """As `HistoryIndex.history_of`."""
        index = self._train if record.split == "train" else self._every
        return index.history_of(record, limit=limit)


def source_weights(counts: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Share of each source in training: n**temperature, summing to 1 (1: by size; 0: all alike)."""
    raw = {source: float(n) ** temperature for source, n in counts.items() if n > 0}
    total = sum(raw.values())
    return {source: weight / total for source, weight in raw.items()}
