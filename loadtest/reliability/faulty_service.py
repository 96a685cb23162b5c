"""`python -m loadtest.reliability.faulty_service --port N`: the service over its real engine, which breaks when told.

The file named by FAULT says how: `hang` (calls do not return while it says so), `crash` (calls fail and the engine is
dead), `memory` (calls fail for want of memory).
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from app.main import create_app
from app.server import serve
from app.settings import Settings
from app.sockets import bind, listen
from model.checkpoint import Checkpoint
from model.engines.base import Forecast, Query
from model.engines.torch_engine import TorchEngine

FAULT = "FAULT_FILE"


class FaultyEngine:
    """The embedded engine; every start makes a new one."""

    concurrency = 1

    def __init__(self, checkpoint: Checkpoint, fault: Path) -> None:
        self._checkpoint, self._fault = checkpoint, fault
        self._engine: TorchEngine | None = None

    def start(self) -> None:
        engine = TorchEngine(self._checkpoint.path, self._checkpoint.encoder)
        engine.start()
        self._engine = engine

    def health(self) -> bool:
        return self._engine is not None and self._engine.health()

    def close(self) -> None:
        self._engine = None

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        engine = self._engine
        fault = self._fault.read_text() if self._fault.exists() else ""
        while fault == "hang" and self._fault.exists():
            time.sleep(0.01)
        if fault == "crash":
            self._engine = None
            raise RuntimeError("the engine crashed")
        if fault == "memory":
            raise MemoryError
        assert engine is not None
        return engine.predict(queries)


def main() -> None:
    settings = Settings(port=int(sys.argv[-1]))
    checkpoint = Checkpoint.load(settings.checkpoint)
    app = create_app(settings, engine=FaultyEngine(checkpoint, Path(os.environ[FAULT])))
    sockets = bind(settings.host, settings.port)
    listen(sockets)
    serve(app, settings, sockets)


if __name__ == "__main__":
    main()
