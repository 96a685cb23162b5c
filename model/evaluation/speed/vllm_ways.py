"""The ways that need vLLM: ours in process, apart and behind a server, its own prefill, and text under a grammar.

vllm prefill      one sequence, one token
vllm              VllmEngine in this process: nine sequences, a token for each symbol of a number
vllm, no processor  the walks on our side: a request per distinct prefix, its probabilities asked for
vllm apart        the same as vllm with its core in a process of its own
vllm-server       VllmServerEngine over HTTP on loopback
vllm regex        the nine numbers as text under a regular expression (structured outputs), greedy
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from model.checkpoint import Checkpoint
from model.decoding import Descent
from model.engines.base import Engine, Query
from model.engines.vllm.engine import VllmEngine, VllmSettings
from model.engines.vllm.launch import command
from model.engines.vllm.server import ServerSettings, VllmServerEngine
from model.evaluation.speed.timing import Prompt, Way
from model.evaluation.speed.ways import QUANTILES, AnswerText, targets_of
from model.prompt import PAD

_REGEX = r"([0-9]\.[0-9]{2}e[0-9]{1,2}[ \n])+"
#: The grammar needs a tokenizer that has a token to end with; our own walks do without.
_IN_PROCESS = {"skip_tokenizer_init": False}
_TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": PAD, "pad_token": PAD}


@dataclass(frozen=True)
class VllmWays:
    """Name -> what to do with a prompt, and the engines by name."""

    ways: dict[str, Way]
    engines: dict[str, Engine]


@contextmanager
def in_this_process(checkpoint: Checkpoint, text: AnswerText) -> Iterator[VllmWays]:
    """VLLM stepped in this process, running inside the block."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    with TemporaryDirectory() as directory:
        path = Path(directory)
        shutil.copytree(checkpoint.path, path, dirs_exist_ok=True)
        (path / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER))
        engine = VllmEngine(path, checkpoint.encoder, VllmSettings(more=_IN_PROCESS))
        engine.start()

        def plain(tokens: int, regex: str | None = None) -> Way:
            shape = StructuredOutputsParams(regex=regex) if regex else None
            params = SamplingParams(
                temperature=0.0, max_tokens=tokens, ignore_eos=True, structured_outputs=shape
            )

            def write(prompt: Prompt) -> object:
                (output,) = engine.generate([(prompt, params)])
                if len(output.outputs[0].token_ids) != tokens:
                    raise RuntimeError(f"vLLM ended early: {output.outputs[0].finish_reason}")
                return output

            return write

        ways = {
            "vllm prefill": plain(1),
            "vllm": _asked(engine, checkpoint),
            "vllm, no processor": lambda prompt: walked_outside(engine, checkpoint, prompt),
            "vllm regex": plain(text.nine, _REGEX),
        }
        try:
            yield VllmWays(ways, {"vllm": engine})
        finally:
            engine.close()


@contextmanager
def in_other_processes(checkpoint: Checkpoint) -> Iterator[VllmWays]:
    """VLLM's core in a process of its own, and a server of it, running inside the block."""
    with ExitStack() as stack:
        apart = VllmEngine(checkpoint.path, checkpoint.encoder, VllmSettings(own_process=True))
        url = stack.enter_context(server(checkpoint))
        remote = VllmServerEngine(checkpoint.encoder, ServerSettings((url,), checkpoint.version))
        engines: dict[str, Engine] = {"vllm apart": apart, "vllm-server": remote}
        for engine in engines.values():
            engine.start()
            stack.callback(engine.close)
        yield VllmWays({name: _asked(engine, checkpoint) for name, engine in engines.items()}, engines)


def _asked(engine: Engine, checkpoint: Checkpoint) -> Way:
    targets = targets_of(checkpoint)
    return lambda prompt: engine.predict([Query(prompt, targets, QUANTILES)])


def walked_outside(engine: VllmEngine, checkpoint: Checkpoint, prompt: Prompt) -> list[float]:
    """The nine quantiles by plain requests: at each position the distributions of the prefixes that are needed."""
    from vllm import SamplingParams

    encoder = checkpoint.encoder
    first, end = encoder.number_rows
    params = SamplingParams(
        temperature=0.0,
        max_tokens=1,
        detokenize=False,
        logprob_token_ids=list(range(first, end)),
        flat_logprobs=True,
    )
    estimates = encoder.estimates(prompt)
    asks = [encoder.ask(target, estimates) for target in encoder.target_ids]
    walks = [(row, tau) for row in range(len(asks)) for tau in QUANTILES]
    descent = Descent(encoder.code, [row for row, _ in walks], [tau for _, tau in walks])
    written = [(asks[row][0],) for row in descent.rows]
    while True:
        outputs = engine.generate([((*prompt, *tokens), params) for tokens in written])
        rows = np.array([output.outputs[0].logprobs.logprobs[1:] for output in outputs])
        descent.advance(rows[:, np.array(encoder.symbol_ids[descent.position]) - first])
        if descent.done:
            scales = [asks[row][1] for row, _ in walks]
            return [scale * value for scale, value in zip(scales, descent.values().tolist(), strict=True)]
        symbols = np.array(encoder.symbol_ids[descent.position - 1])[descent.symbols]
        written = [
            (*written[parent], token)
            for parent, token in zip(descent.parents.tolist(), symbols.tolist(), strict=True)
        ]


@contextmanager
def server(checkpoint: Checkpoint, start_seconds: float = 300.0) -> Iterator[str]:
    """A vLLM server of its own port on loopback; its URL. Raises RuntimeError where it does not come up."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = int(made.getsockname()[1])
    line = command(checkpoint, "127.0.0.1", port)
    process = subprocess.Popen(
        line,
        env={
            **os.environ,
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "HF_HUB_OFFLINE": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + start_seconds
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the vLLM server did not come up")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as made:
        made.settimeout(1)
        return made.connect_ex(("127.0.0.1", port)) == 0
