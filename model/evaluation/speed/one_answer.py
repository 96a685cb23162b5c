"""`python -m model.evaluation.speed.one_answer CHECKPOINT ENGINE`: one answer, and the memory it took to get there."""

import json
import sys
from pathlib import Path

from model.checkpoint import Checkpoint
from model.engines.base import Engine, Query

_PAGE_KILOBYTES = "VmRSS:"


def main(path: Path, name: str) -> None:
    """Prints a JSON object as its last line."""
    checkpoint = Checkpoint.load(path)
    engine: Engine
    if name == "torch":
        from model.engines.torch_engine import TorchEngine

        engine = TorchEngine(checkpoint.path, checkpoint.encoder)
    else:
        from model.engines.vllm.engine import VllmEngine

        engine = VllmEngine(checkpoint.path, checkpoint.encoder)
    engine.start()
    engine.predict([Query((5,) * 100, tuple(checkpoint.encoder.target_ids), (0.5,))])
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith(_PAGE_KILOBYTES))
    print(json.dumps({"resident_megabytes": round(kilobytes / 1024)}))
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
