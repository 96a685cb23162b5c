"""The embedded engine: one prefill and a few narrow steps per batch of queries, in process.

    prefill   prompt, one token per target, and how its answer probably begins  -> exponent distributions
    step k    the distinct prefixes of k number tokens that the wanted quantiles need, and that were not read yet

All targets and quantiles of a query are rows of the same steps (`model.decoding.Descent`), so their number costs next
to nothing: there are at most as many steps as mantissa tokens, and the floor is the prefill. What is read ahead and not
needed changes no answer.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.decoding import Descent
from model.engines.base import Forecast, Query
from model.engines.forest import Forest, Node
from model.engines.packed import PackedDecoder
from model.engines.weights import Weights
from model.errors import EngineUnavailable
from model.precision import fastest_dtype
from model.prompt import PromptEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        self._columns = [np.array(ids) - first for ids in encoder.symbol_ids]

    def start(self) -> None:
        """Load the weights and answer one query, so that the first client does not pay for lazy set-up."""
        if self._threads:  # else torch's own choice: all cores, or OMP_NUM_THREADS
            torch.set_num_threads(self._threads)
        self._run(Weights.load(self._path, self._dtype))
        targets = tuple(self._encoder.target_ids)
        for length in (64, self._encoder.token_budget):
            self.predict([Query((1,) * length, targets, (0.1, 0.5, 0.9))])

    def use(self, model: "PreTrainedModel") -> None:
        """Serve a model that is already in memory, with the weights that it has now."""
        self._run(Weights.of(model.train(False)))

    @torch.inference_mode()
    def _run(self, weights: Weights) -> None:
        self._decoder = PackedDecoder(weights.to(self._device))

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
        forest = Forest(queries, self._encoder)
        walks = [(row, tau) for row, query in enumerate(forest.queries) for tau in queries[query].quantiles]
        descent = Descent(self._encoder.code, [row for row, _ in walks], [tau for _, tau in walks])
        tokens = torch.tensor([token for prompt in forest.prompts for token in prompt], device=self._device)
        tails = forest.place(list(forest.first()), self._device, decoder.dtype)
        self._score(forest, decoder.prefill(tokens, tails, forest.kept))
        prefilled = time.perf_counter()
        nodes: list[Node] = [(row, ()) for row in descent.rows.tolist()]
        while True:
            descent.advance(forest.logits(nodes)[:, self._columns[descent.position]])
            if descent.done:
                break
            nodes = [
                (row, (*nodes[parent][1], symbol))
                for row, parent, symbol in zip(
                    descent.rows.tolist(), descent.parents.tolist(), descent.symbols.tolist(), strict=True
                )
            ]
            if missing := forest.missing(nodes):
                tails = forest.place(missing, self._device, decoder.dtype)
                self._score(forest, decoder.step(tails, forest.kept))
        values = iter(descent.values().tolist())
        scales = iter(forest.scales)
        answers = [
            {
                target: tuple(scale * next(values) for _ in query.quantiles)
                for target, scale in zip(query.targets, scales, strict=False)
            }
            for query in queries
        ]
        times = prefilled - started, time.perf_counter() - prefilled
        return [Forecast(found, *times, len(queries)) for found in answers]

    def _score(self, forest: Forest, states: torch.Tensor) -> None:
        """Logits of the nodes that were placed last: number rows of the output layer only."""
        logits = self.decoder.number_logits(forest.pick(states), self._encoder.number_rows)
        forest.read(logits.float().cpu().numpy())
