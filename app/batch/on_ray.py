"""Windows computed by Ray Data: actors that read, actors that hold an engine, on as many machines as the cluster has.

    plan: all windows, as positions in the input ─► Reading ─► Scoring ─► in the windows' order, written here
                                                   (CPU actors) (an engine each)

The plan is made before anything is computed, since Ray Data splits what it knows: the driver needs some 300 bytes for
each record. Machines read the input by its path: it lies where all of them see it.
"""

import logging
import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from app.batch.run import Job
from app.batch.source import open_source
from app.batch.stages import Stages, compute
from app.batch.windows import Window
from app.build import engine_builder
from app.cores import usable_cores
from app.settings import Settings
from app.startup import ConfigurationError
from model.checkpoint import Checkpoint
from model.errors import EngineUnavailable

_Rows = dict[str, Any]


def answered_on_ray(
    job: Job, windows: Iterable[Window], *, readers: int, engines: int, address: str | None = None
) -> Iterator[tuple[Window, list[bytes]]]:
    """Every window with its answers, in order. Raises ConfigurationError where Ray is missing, EngineUnavailable."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to nobody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ModuleNotFoundError:
        raise ConfigurationError("--ray needs Ray: pip install 'jobcast[ray]'") from None
    settings = job.settings
    threads = settings.engine_threads or 1
    # A Ray of this machine alone must not wait for cores that never come: actors may share them.
    here = address is None and "RAY_ADDRESS" not in os.environ
    slots = max(usable_cores(), readers + engines * threads + 1) if here else None
    ray.init(address=address, num_cpus=slots, logging_level=logging.ERROR, include_dashboard=False)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        planned = list(_without_lines(windows))
        if not planned:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = ray.data.from_items(
            [{"number": window.number, "positions": list(window.new.values())} for window in planned],
            override_num_blocks=len(planned),
        )
        gpus = 1 if settings.engine == "vllm" and ray.cluster_resources().get("GPU") else 0
        scored = rows.map_batches(
            Reading,
            fn_constructor_args=(job.source_path.absolute(), settings),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=readers),
            num_cpus=1,
        ).map_batches(
            Scoring,
            fn_constructor_args=(settings.model_copy(update={"engine_threads": threads}),),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=engines),
            num_cpus=threads,
            num_gpus=gpus,
        )
        for window, row in zip(planned, scored.iter_rows(), strict=True):
            assert row["number"] == window.number
            yield window, pickle.loads(row["answers"])
    except ray.exceptions.RayError as error:
        raise EngineUnavailable(f"Ray failed: {type(error).__name__}; the same command goes on") from error
    finally:
        ray.shutdown()


def _without_lines(windows: Iterable[Window]) -> Iterator[Window]:
    """The machines read them themselves."""
    for window in windows:
        window.lines = []
        yield window


class Reading:
    """An actor that reads the requests of a window."""

    def __init__(self, source: Path, settings: Settings) -> None:
        self._source = open_source(source, settings.max_body_bytes)
        self._stages = Stages(settings, Checkpoint.load(settings.checkpoint, lazily=True))

    def __call__(self, rows: _Rows) -> _Rows:
        """One row: number, positions -> number, window."""
        read = self._stages.read(self._source.fetch(int(place) for place in rows["positions"][0]))
        return {"number": rows["number"], "window": _column(pickle.dumps(read))}


class Scoring:
    """An actor with an engine, which also writes the answers."""

    def __init__(self, settings: Settings) -> None:
        checkpoint = Checkpoint.load(settings.checkpoint, lazily=True)
        self._stages = Stages(settings, checkpoint)
        self._engine = engine_builder(settings, checkpoint)()
        self._engine.start()

    def __call__(self, rows: _Rows) -> _Rows:
        """One row: number, window -> number, answers."""
        window = pickle.loads(rows["window"][0])
        answers = self._stages.answer(window, compute(self._engine, window))
        return {"number": rows["number"], "answers": _column(pickle.dumps(answers))}


def _column(content: bytes) -> np.ndarray:
    """Bytes as they are: NumPy's own type of bytes would drop zeros at their end."""
    return np.array([content], dtype=object)
