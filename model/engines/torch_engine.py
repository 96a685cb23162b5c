"""The embedded engine: one prefill and a few narrow steps per batch of queries, in process.

    prefill   prompt, then one token per target; targets see the prompt and not each other -> exponent distributions
    step k    the distinct prefixes of k number tokens that the wanted quantiles need      -> next distributions

All targets and quantiles of a query are rows of the same steps (`model.decoding.Descent`), so their number costs next
to nothing: the steps are as many as mantissa tokens, and the floor is the prefill.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from model.decoder import fastest_dtype, load_decoder
from model.decoding import Descent
from model.engines.base import Forecast, Query
from model.engines.packed import PackedDecoder, Sequences, Tails
from model.errors import EngineUnavailable
from model.prompt import PromptEncoder

Places = NDArray[np.int64]


class TorchEngine:
    """Engine over a checkpoint directory; see `model.engines.base.Engine`."""

    concurrency = 1

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
        self._decoder: PackedDecoder | None = None
        first, _ = encoder.number_rows
        self._symbols = [np.array(ids) for ids in encoder.symbol_ids]
        self._columns = [ids - first for ids in self._symbols]

    def start(self) -> None:
        """Load the weights and answer one query, so that the first client does not pay for lazy set-up."""
        if self._threads:  # else torch's own choice: all cores, or OMP_NUM_THREADS
            torch.set_num_threads(self._threads)
        self.use(load_decoder(self._path, self._dtype))
        targets = tuple(self._encoder.target_ids)
        for length in (64, self._encoder.token_budget):
            self.predict([Query((1,) * length, targets, (0.1, 0.5, 0.9))])

    @torch.inference_mode()
    def use(self, model: PreTrainedModel) -> None:
        """Serve a model that is already in memory, with the weights that it has now."""
        self._decoder = PackedDecoder(model.to(self._device).eval())  # type: ignore[arg-type]

    @property
    def decoder(self) -> PackedDecoder:
        """What it runs. Raises EngineUnavailable before start and after close."""
        if self._decoder is None:
            raise EngineUnavailable("the engine is not running")
        return self._decoder

    def health(self) -> bool:
        return self._decoder is not None

    def close(self) -> None:
        self._decoder = None

    @torch.inference_mode()
    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """Exact quantiles of every query, all in one batch."""
        decoder = self.decoder
        if not queries:
            return []
        started = time.perf_counter()
        batch = _Batch(queries, self._encoder)
        descent = batch.descent
        descent.advance(self._scored(self._prefilled(batch), batch))
        prefilled = time.perf_counter()
        while not descent.done:
            batch.place(descent.rows, descent.parents)
            ids = self._symbols[descent.position - 1][descent.symbols]
            states = decoder.step(self._tails(batch, ids, descent.position), batch.kept)
            descent.advance(self._scored(states, batch))
        done = time.perf_counter()
        return [
            Forecast(values, prefilled - started, done - prefilled, len(queries)) for values in batch.values()
        ]

    def _prefilled(self, batch: "_Batch") -> torch.Tensor:
        tokens = torch.tensor([token for prompt in batch.prompts for token in prompt], device=self._device)
        return self.decoder.prefill(tokens, self._tails(batch, batch.asks, 0), batch.kept)

    def _tails(self, batch: "_Batch", ids: Places, depth: int) -> Tails:
        """The rows that were placed last; ids: one per node; depth: number tokens of each."""
        queries, lines = batch.queries_of_nodes, batch.lines
        rows = int(lines.max()) + 1
        tokens = np.zeros((len(batch.prompts), rows), dtype=np.int64)
        tokens[queries, lines] = ids
        positions = np.repeat(batch.lengths[:, None] + depth, rows, axis=1)
        base, seen = batch.kept.base, batch.seen
        visible = np.zeros((len(batch.prompts), rows, base + seen.shape[1]), dtype=bool)
        visible[:, :, :base] = np.arange(base) < batch.lengths[:, None, None]
        visible[queries, lines, base:] = seen
        mask = torch.zeros(visible.shape, dtype=self.decoder.dtype)
        mask.masked_fill_(torch.from_numpy(~visible), torch.finfo(mask.dtype).min)
        return Tails(
            torch.from_numpy(tokens).to(self._device),
            torch.from_numpy(positions).to(self._device),
            mask[:, None].to(self._device),
        )

    def _scored(self, states: torch.Tensor, batch: "_Batch") -> NDArray[np.float32]:
        """Logits of the nodes that were placed last [nodes, alphabet]: number rows of the output layer only."""
        picked = states[batch.queries_of_nodes, batch.lines]
        logits = self.decoder.number_logits(picked, self._encoder.number_rows).float().cpu().numpy()
        found: NDArray[np.float32] = logits[:, self._columns[batch.descent.position]]
        return found


class _Batch:
    """Queries on their way through the decoder: what is asked, and where each node of their descent stands."""

    def __init__(self, queries: Sequence[Query], encoder: PromptEncoder) -> None:
        self._queries = queries
        self.prompts = [[*query.prompt, *encoder.given_ids(query.given)] for query in queries]
        self.lengths = np.array([len(prompt) for prompt in self.prompts])
        asked = [(i, target) for i, query in enumerate(queries) for target in query.targets]
        estimates = [encoder.estimates(query.prompt) for query in queries]
        asks = [encoder.ask(target, estimates[i]) for i, target in asked]
        #: Per row (a target of a query): the token that asks for it.
        self.asks = np.array([token for token, _ in asks])
        self._scales = [scale for _, scale in asks]
        self._of_rows = np.array([i for i, _ in asked])
        walks = [(row, tau) for row, (i, _) in enumerate(asked) for tau in queries[i].quantiles]
        self.descent = Descent(encoder.code, [row for row, _ in walks], [tau for _, tau in walks])
        widest = max(
            len(query.targets) * (1 + len(query.quantiles) * (encoder.code.length - 1)) for query in queries
        )
        self.kept = Sequences(self.lengths.tolist(), widest)
        #: Per node: which rows behind the prompt it sees, its own among them.
        self.seen = np.zeros((len(asked), 0), dtype=bool)
        self.place(self.descent.rows, np.arange(len(asked)))

    def place(self, rows: Places, parents: Places) -> None:
        """Give the nodes of a position (their rows, and the nodes before them) the next lines of their query."""
        self.queries_of_nodes = self._of_rows[rows]
        # Nodes are sorted by row, rows by query: a node's line is its distance from the first of its query.
        first = np.searchsorted(self.queries_of_nodes, self.queries_of_nodes)
        self.lines = np.arange(len(rows)) - first
        own = np.zeros((len(rows), int(self.lines.max()) + 1), dtype=bool)
        own[np.arange(len(rows)), self.lines] = True
        self.seen = np.hstack([self.seen[parents], own])

    def values(self) -> list[dict[str, tuple[float, ...]]]:
        """Per query: target -> its quantiles in the target's unit."""
        values = iter(self.descent.values().tolist())
        scales = iter(self._scales)
        return [
            {
                target: tuple(scale * next(values) for _ in query.quantiles)
                for target, scale in zip(query.targets, scales, strict=False)
            }
            for query in self._queries
        ]
