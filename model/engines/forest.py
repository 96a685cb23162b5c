"""Where the tokens of a batch's answers stand: a tree behind each prompt, its nodes the prefixes that are read.

    prompt ─ <target> ─ exponent ─ digit ─ digit      a node per distinct prefix of a target's number; siblings and
           ├ <target> ─ ...                           other targets do not see each other
           └ <target> ─ ...

A node is (row, path): a row is a target of a query, a path the symbols behind its target token.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.engines.base import Query
from model.engines.packed import Sequences, Tails
from model.numbers import Prefix
from model.prompt import PromptEncoder

Node = tuple[int, Prefix]

#: With an estimate in the prompt the answer is a ratio to it, nearly always between these: what is read ahead.
_LIKELY = (0.5, 1.0)
#: In batches of so few queries a step costs more than reading all their first digits ahead.
_FEW = 2


class Forest:
    """The prompts of a batch, the nodes behind them, and the logits of the nodes that were read."""

    def __init__(self, queries: Sequence[Query], encoder: PromptEncoder) -> None:
        self._encoder = encoder
        self.prompts = [[*query.prompt, *encoder.given_ids(query.given)] for query in queries]
        self._lengths = [len(prompt) for prompt in self.prompts]
        asked = [(i, target) for i, query in enumerate(queries) for target in query.targets]
        estimates = [encoder.estimates(query.prompt) for query in queries]
        self._asks = [encoder.ask(target, estimates[i]) for i, target in asked]
        self._ratios = [target in estimates[i] for i, target in asked]
        #: Per row: its query, and what the decoded answers are multiplied with.
        self.queries = [i for i, _ in asked]
        self.scales = [scale for _, scale in self._asks]
        self._guessed = self._guesses(deep=len(queries) <= _FEW)
        widest = max(
            len(q.targets) * (1 + len(self._guessed) + len(q.quantiles) * (encoder.code.length - 1))
            for q in queries
        )
        self.kept = Sequences(self._lengths, widest)
        self._filled = [0] * len(queries)
        self._lines: dict[Node, int] = {}
        self._last: list[Node] = []
        self._logits: dict[Node, NDArray[np.float32]] = {}

    def first(self) -> Iterator[Node]:
        """What rides with the prompts: every target, and what its answer probably begins with."""
        for row, ratio in enumerate(self._ratios):
            yield row, ()
            if ratio:
                yield from ((row, path) for path in self._guessed)

    def _guesses(self, *, deep: bool) -> list[Prefix]:
        code = self._encoder.code
        if code.signed:
            return []
        exponents = list(dict.fromkeys(code.encode(ratio)[:1] for ratio in _LIKELY))
        digits = [(*path, symbol) for path in exponents for symbol in code.choices(path)]
        return [*exponents, *(digits if deep and code.widths[0] == 1 and code.length > 2 else [])]

    def missing(self, nodes: Sequence[Node]) -> list[Node]:
        """Those that were not read yet."""
        return [node for node in nodes if node not in self._logits]

    def place(self, nodes: Sequence[Node], device: torch.device, dtype: torch.dtype) -> Tails:
        """Give nodes the next lines behind their prompts; what stands before each was placed, or comes before it."""
        counts = [0] * len(self.prompts)
        for row, path in nodes:
            query = self.queries[row]
            self._lines[row, path] = self.kept.rows + counts[query]
            counts[query] += 1
        self._last = list(nodes)
        rows, base, start = max(counts), self.kept.base, self.kept.rows
        tokens, positions = np.zeros((2, len(counts), rows), dtype=np.int64)
        hidden = np.ones((len(counts), rows, base + start + rows), dtype=bool)
        for query, length in enumerate(self._lengths):
            hidden[query, :, :length] = False
        for row, path in nodes:
            query, line = self.queries[row], self._lines[row, path] - start
            tokens[query, line] = self._token(row, path)
            positions[query, line] = self._lengths[query] + len(path)
            seen = [base + self._lines[row, path[:depth]] for depth in range(len(path) + 1)]
            hidden[query, line, seen] = False
        mask = torch.zeros(hidden.shape, dtype=dtype)
        mask.masked_fill_(torch.from_numpy(hidden), torch.finfo(dtype).min)
        return Tails(
            torch.from_numpy(tokens).to(device),
            torch.from_numpy(positions).to(device),
            mask[:, None].to(device),
        )

    def _token(self, row: int, path: Prefix) -> int:
        return self._encoder.symbol_ids[len(path) - 1][path[-1]] if path else self._asks[row][0]

    def pick(self, states: torch.Tensor) -> torch.Tensor:
        """Final states [Q, R, hidden] -> those of the nodes placed last [nodes, hidden]."""
        rows, start = states.shape[1], self.kept.rows - states.shape[1]
        flat = [self.queries[node[0]] * rows + self._lines[node] - start for node in self._last]
        return states.flatten(0, 1)[torch.tensor(flat, device=states.device)]

    def read(self, logits: NDArray[np.float32]) -> None:
        """Keep what the nodes placed last were answered [nodes, numbers]."""
        self._logits.update(zip(self._last, logits, strict=True))

    def logits(self, nodes: Sequence[Node]) -> NDArray[np.float32]:
        """[nodes, numbers]."""
        return np.stack([self._logits[node] for node in nodes])
