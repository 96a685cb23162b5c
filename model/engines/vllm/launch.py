"""Becomes vLLM's OpenAI server, with our logits processor, for a checkpoint."""

import os
import sys
from collections.abc import Sequence

import torch

from model.checkpoint import Checkpoint
from model.engines.vllm.engine import PROCESSORS, QUIET
from model.errors import EngineUnavailable
from model.precision import fastest_dtype

#: How long a server that is told to end goes on answering what it was asked; the chart leaves it that time.
END_SECONDS = 30


def command(
    checkpoint: Checkpoint, host: str, port: int, more: Sequence[str] = (), *, runner_v2: bool = False
) -> list[str]:
    """The server's command line. The checkpoint is served under its version, so that no other is asked by mistake.

    runner_v2: vLLM's model runner V2 will be used, which wants a processor of its own interface.
    """
    return [
        sys.executable,
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(checkpoint.path.resolve())),
        *("--served-model-name", checkpoint.version),
        *("--host", host),
        *("--port", str(port)),
        *("--dtype", str(fastest_dtype()).removeprefix("torch.")),
        "--skip-tokenizer-init",
        "--enable-prefix-caching",
        *("--logits-processors", PROCESSORS[runner_v2]),
        "--disable-log-stats",
        # On SIGTERM it answers what it was asked; by default it would give it up.
        *("--shutdown-timeout", str(END_SECONDS)),
        *([] if torch.cuda.is_available() or "--enforce-eager" in more else ["--enforce-eager"]),
        *more,
    ]


def launch(checkpoint: Checkpoint, host: str, port: int, more: Sequence[str]) -> None:
    """Replaces this process. Raises EngineUnavailable where vLLM is not installed."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        from vllm.engine.arg_utils import EngineArgs
    except ImportError as error:
        raise EngineUnavailable("vLLM is not installed: docs/engines.md says how") from error
    arguments = EngineArgs(model=str(checkpoint.path), skip_tokenizer_init=True)
    runner_v2 = bool(arguments.create_engine_config().use_v2_model_runner)
    line = command(checkpoint, host, port, more, runner_v2=runner_v2)
    os.execv(line[0], line)
