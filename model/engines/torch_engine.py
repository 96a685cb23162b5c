"""The embedded engine: transformers' decoder in process, one prefill and a few batched steps per batch of queries.

    prefill   prompt, then one token per target; targets see the prompt and not each other -> exponent distributions
    step k    the distinct prefixes of k number tokens that the wanted quantiles need      -> next distributions

All targets and quantiles of a query are rows of the same steps (`model.decoding`), so their number costs next to
nothing: the steps are as many as mantissa tokens, and the floor is the prefill.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from model.decoder import fastest_dtype, hidden_states, load_decoder, number_logits
from model.decoding import Walk, quantile_walk
from model.engines.base import Forecast, Query
from model.engines.tree_cache import TreeCache
from model.errors import EngineUnavailable
from model.numbers import Prefix
from model.prompt import PromptEncoder

#: Prompts of a batch are padded to the longest: beyond this ratio a batch is split by length.
_LENGTH_RATIO = 2.0


@dataclass
class _Row:
    """One (query, target): its walk, and where in the query's sequence each known prefix was put."""

    query: int
    target: str
    ask: int
    #: What the decoded answers are multiplied with.
    scale: float
    prompt_length: int
    walk: Walk[tuple[float, ...]]
    wanted: list[Prefix] = field(default_factory=list)
    slots: dict[Prefix, int] = field(default_factory=dict)
    result: tuple[float, ...] | None = None

    def advance(self, logits: list[NDArray[np.float32]] | None) -> None:
        """Send the walk its logits (None: start it); keeps what it wants next, or its result."""
        try:
            self.wanted = next(self.walk) if logits is None else self.walk.send(logits)
        except StopIteration as end:
            self.wanted, self.result = [], end.value

    def ancestors(self, prefix: Prefix) -> list[int]:
        """Slots of the target token and of the number tokens before the prefix's last."""
        return [self.slots[prefix[:length]] for length in range(len(prefix))]


class TorchEngine:
    """Engine over a checkpoint directory; see `model.engines.base.Engine`."""

    def __init__(
        self,
        path: Path | str,
        encoder: PromptEncoder,
        *,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self._path, self._encoder = Path(path), encoder
        self._dtype, self._device = dtype or fastest_dtype(), torch.device(device)
        self._threads = threads
        self._model: PreTrainedModel | None = None

    def start(self) -> None:
        """Load the weights and answer one query, so that the first client does not pay for lazy set-up."""
        if self._threads:  # else torch's own choice: all cores, or OMP_NUM_THREADS
            torch.set_num_threads(self._threads)
        self.use(load_decoder(self._path, self._dtype))
        targets = tuple(self._encoder.target_ids)
        for length in (64, self._encoder.token_budget):
            self.predict([Query((1,) * length, targets, (0.1, 0.5, 0.9))])

    def use(self, model: PreTrainedModel) -> None:
        """Serve a model that is already in memory (training's own evaluation)."""
        self._model = model.to(self._device).eval()  # type: ignore[arg-type]

    def health(self) -> bool:
        return self._model is not None

    def close(self) -> None:
        self._model = None

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """Exact quantiles of every query; queries of like length share a batch."""
        if self._model is None:
            raise EngineUnavailable("the engine is not running")
        answers: dict[int, Forecast] = {}
        order = sorted(range(len(queries)), key=lambda i: len(queries[i].prompt))
        while order:
            longest = max(len(queries[order[0]].prompt), 64) * _LENGTH_RATIO
            group = [i for i in order if len(queries[i].prompt) <= longest]
            order = order[len(group) :]
            forecasts = self._predict_batch(self._model, [queries[i] for i in group])
            answers.update(zip(group, forecasts, strict=True))
        return [answers[i] for i in range(len(queries))]

    @torch.inference_mode()
    def _predict_batch(self, model: PreTrainedModel, queries: Sequence[Query]) -> list[Forecast]:
        started = time.perf_counter()
        code = self._encoder.code
        prompts = [[*query.prompt, *self._encoder.given_ids(query.given)] for query in queries]
        estimates = [self._encoder.estimates(query.prompt) for query in queries]
        rows = [
            _Row(
                i,
                target,
                *self._encoder.ask(target, estimates[i]),
                len(prompts[i]),
                quantile_walk(code, query.quantiles),
            )
            for i, query in enumerate(queries)
            for target in query.targets
        ]
        width = max(map(len, prompts)) + max(len(query.targets) for query in queries)
        widest = max(len(q.targets) * len(q.quantiles) for q in queries)
        cache = TreeCache(model.config.num_hidden_layers, width + widest * (code.length - 1))

        tokens = torch.zeros(len(queries), width, dtype=torch.long)
        visible = torch.ones(width, width, dtype=torch.bool).tril().repeat(len(queries), 1, 1)
        positions = torch.arange(width).repeat(len(queries), 1)
        for i, prompt in enumerate(prompts):
            tokens[i, : len(prompt)] = torch.tensor(prompt)
        filled = [len(prompt) for prompt in prompts]
        for row in rows:
            slot = filled[row.query]
            filled[row.query] += 1
            tokens[row.query, slot] = row.ask
            positions[row.query, slot] = row.prompt_length
            visible[row.query, slot, row.prompt_length : slot] = False
            row.slots[()] = slot
            row.advance(None)
        states = self._run(model, tokens, positions, visible, cache)
        self._answer(model, rows, states, offset=0)
        prefilled = time.perf_counter()

        while any(row.wanted for row in rows):
            offset = cache.get_seq_length()
            width = self._place(rows, offset)
            tokens, positions, visible = self._step_inputs(rows, len(queries), offset, width)
            self._answer(model, rows, self._run(model, tokens, positions, visible, cache), offset)
        done = time.perf_counter()

        values: list[dict[str, tuple[float, ...]]] = [{} for _ in queries]
        for row in rows:
            assert row.result is not None
            values[row.query][row.target] = tuple(row.scale * value for value in row.result)
        return [Forecast(v, prefilled - started, done - prefilled, len(queries)) for v in values]

    def _place(self, rows: Sequence[_Row], offset: int) -> int:
        """Give every wanted prefix a slot of its query's sequence; returns the width of the step."""
        used: dict[int, int] = {}
        for row in rows:
            for prefix in row.wanted:
                row.slots[prefix] = offset + used.get(row.query, 0)
                used[row.query] = used.get(row.query, 0) + 1
        return max(used.values())

    def _step_inputs(
        self, rows: Sequence[_Row], batch: int, offset: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens = torch.zeros(batch, width, dtype=torch.long)
        positions = torch.zeros(batch, width, dtype=torch.long)
        visible = torch.zeros(batch, width, offset + width, dtype=torch.bool)
        visible[:, torch.arange(width), offset + torch.arange(width)] = True
        for row in rows:
            for prefix in row.wanted:
                slot = row.slots[prefix]
                line = slot - offset
                tokens[row.query, line] = self._encoder.symbol_ids[len(prefix) - 1][prefix[-1]]
                positions[row.query, line] = row.prompt_length + len(prefix)
                visible[row.query, line, : row.prompt_length] = True
                visible[row.query, line, row.ancestors(prefix)] = True
        return tokens, positions, visible

    def _run(
        self,
        model: PreTrainedModel,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        visible: torch.Tensor,
        cache: TreeCache,
    ) -> torch.Tensor:
        mask = torch.zeros(visible.shape, dtype=model.dtype)
        mask.masked_fill_(~visible, torch.finfo(model.dtype).min)
        device = self._device
        return hidden_states(model, tokens.to(device), positions.to(device), mask[:, None].to(device), cache)

    def _answer(
        self, model: PreTrainedModel, rows: Sequence[_Row], states: torch.Tensor, offset: int
    ) -> None:
        """Score the wanted prefixes and send each walk its logits."""
        wanted = [(row, prefix) for row in rows for prefix in row.wanted]
        queries = torch.tensor([row.query for row, _ in wanted], device=self._device)
        slots = torch.tensor([row.slots[prefix] - offset for row, prefix in wanted], device=self._device)
        first, end = self._encoder.number_rows
        logits = number_logits(model, states[queries, slots], (first, end)).float().cpu().numpy()
        lines = iter(logits)
        for row in rows:
            if row.wanted:
                columns = np.array(self._encoder.symbol_ids[len(row.wanted[0])]) - first
                row.advance([next(lines)[columns] for _ in row.wanted])
