"""Which records a step sees, and as which trees.

Records of a source are put in the order of their prompts, so that neighbours share prefixes, and cut into bundles of
about `nodes_per_tree` nodes. Each draw takes a source with a probability tempered by its size and then the source's
next bundle; a source that is used up starts over with other cuts and other histories. All of it follows from the seed
and the number of bundles drawn before: resuming skips them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from model.numbers import NumberCode
from model.prompt import PromptEncoder
from model.training.corpus import source_weights
from model.training.examples import Example, Tokens, Told
from model.training.tree import Path, Tree, build, shared_prefix, visible

#: Batches that are drawn together and sorted by size.
_WINDOW = 6


@dataclass(frozen=True)
class Mixture:
    """How examples are drawn and shown."""

    nodes_per_tree: int = 640
    temperature: float = 0.6
    #: Share of the records with past outcomes that also answer with them shown.
    history_share: float = 0.5
    #: Share of the records whose targets are also answered one after another, each given those before it.
    joint_share: float = 0.25
    #: Loss weight of each digit of a mantissa, the last for all that follow: the last digits are mostly noise.
    #: A token of several digits has the mean of theirs, an exponent 1.
    digit_weights: tuple[float, ...] = (1.0, 0.8, 0.4)
    #: Share of the prompts that carry evidence; the others keep the decoder able to answer from text and history.
    evidence_share: float = 0.85
    #: Share of those whose evidence comes from experts that do not know the job's group.
    unknown_share: float = 0.35


def position_weights(code: NumberCode, digits: Sequence[float]) -> tuple[float, ...]:
    """Loss weight of each token of a number."""
    each = [digits[min(place, len(digits) - 1)] for place in range(code.digits)]
    starts = accumulate(code.widths, initial=0)
    mantissa = [
        sum(each[start : start + width]) / width for start, width in zip(starts, code.widths, strict=False)
    ]
    return (*([1.0] * (code.length - len(mantissa))), *mantissa)


class Bundles:
    """An endless, seeded stream of bundles: the paths of one tree each."""

    def __init__(
        self, examples: Sequence[Example], encoder: PromptEncoder, mixture: Mixture, seed: int
    ) -> None:
        self._encoder, self._mixture, self._seed = encoder, mixture, seed
        self._weights = position_weights(encoder.code, mixture.digit_weights)
        by_source: defaultdict[str, list[Example]] = defaultdict(list)
        for example in examples:
            by_source[example.source].append(example)
        self._examples = {
            source: sorted(group, key=lambda example: example.text) for source, group in by_source.items()
        }
        weights = source_weights({s: len(group) for s, group in self._examples.items()}, mixture.temperature)
        # A bundle of short texts holds more records than one of long texts: divide by the records per bundle.
        per_bundle = {s: len(g) / sum(1 for _ in self._cut(s, 0)) for s, g in self._examples.items()}
        share = np.array([weights[s] / per_bundle[s] for s in self._examples])
        self._sources = list(self._examples)
        self._probabilities = share / share.sum()

    def stream(self, skip: int = 0) -> Iterator[list[Path]]:
        """Bundles from number `skip` on."""
        random = np.random.default_rng(self._seed)
        rounds = dict.fromkeys(self._sources, 0)
        left: dict[str, list[tuple[int, int]]] = {source: [] for source in self._sources}
        number = 0
        while True:
            source = self._sources[random.choice(len(self._sources), p=self._probabilities)]
            if not left[source]:
                left[source] = list(self._cut(source, rounds[source]))
                rounds[source] += 1
                random.shuffle(left[source])
            start, end = left[source].pop()
            if number >= skip:
                yield self._paths(self._examples[source][start:end], number)
            number += 1

    def one_round(self) -> Iterator[list[Path]]:
        """Every example once, in fixed order: for validation."""
        for source, examples in self._examples.items():
            for start, end in self._cut(source, 0):
                yield self._paths(examples[start:end], start)

    def _cut(self, source: str, round_number: int) -> Iterator[tuple[int, int]]:
        """Slices of the source's examples; each round cuts elsewhere."""
        examples = self._examples[source]
        random = np.random.default_rng([self._seed, round_number, list(self._examples).index(source)])
        budget = self._mixture.nodes_per_tree
        room = budget * (1 if round_number == 0 else random.uniform(0.3, 1.0))
        start, last = 0, Tokens()
        for index, example in enumerate(examples):
            cost = len(example.text) - shared_prefix(last, example.text) + self._answer_cost(example)
            if cost > room and index > start:
                yield start, index
                start, room = index, budget
                cost = len(example.text) + self._answer_cost(example)
            room -= cost
            last = example.text
        yield start, len(examples)

    def _answer_cost(self, example: Example) -> float:
        """Expected nodes beside the text."""
        answers: float = self._encoder.code.length * len(example.answers)
        answers += self._mixture.evidence_share * (len(example.informed.tokens) if example.informed else 0)
        shown = self._mixture.history_share * (sum(map(len, example.runs)) + answers) if example.runs else 0
        return answers * (1 + self._mixture.joint_share) + shown

    def _paths(self, examples: Sequence[Example], number: int) -> list[Path]:
        random = np.random.default_rng([self._seed, 1, number])
        paths: list[Path] = []
        mixture = self._mixture
        for example in examples:
            told = None
            if example.evidence and random.random() < mixture.evidence_share:
                told = example.evidence[-1 if random.random() < mixture.unknown_share else 0]
            paths += self._answer_paths(example, told, random, with_history=False)
            if example.runs and random.random() < mixture.history_share:
                told = example.informed if random.random() < mixture.evidence_share else None
                paths += self._answer_paths(example, told, random, with_history=True)
        return paths

    def _answer_paths(
        self, example: Example, told: Told | None, random: np.random.Generator, *, with_history: bool
    ) -> Iterator[Path]:
        """Each target on a branch of its own, and sometimes behind the true values of others."""
        weights = self._weights
        prompt = example.prompt(self._encoder, told, with_history=with_history)
        tails = example.tails(self._encoder, told)
        for tail in tails.values():
            yield Path((*prompt, *tail), weights)
        names = list(tails)
        if len(names) > 1 and random.random() < self._mixture.joint_share:
            random.shuffle(names)
            given = example.tails(self._encoder, None)
            for position, name in enumerate(names):
                if position:  # the first is the plain branch again
                    yield Path((*prompt, *tails[name]), weights)
                prompt = (*prompt, *given[name])


@dataclass
class Batch:
    """B padded trees of at most N nodes, M predictions.

    tokens, positions: [B, N]; mask: additive [B, 1, N, N]; sources: [M] flat index into B * N;
    labels: [M] row among the number tokens; weights: [M].
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    sources: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    #: Nodes that are not padding.
    used: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(
            self.tokens.to(device),
            self.positions.to(device),
            self.mask.to(device),
            self.sources.to(device),
            self.labels.to(device),
            self.weights.to(device),
            self.used,
        )


def collate(trees: Sequence[Tree], first_number_row: int) -> Batch:
    """Pad trees to one length. first_number_row: token id of the first number token, which gets label 0."""
    length = -(-max(len(tree) for tree in trees) // 64) * 64  # few distinct shapes
    tokens = torch.zeros(len(trees), length, dtype=torch.long)
    positions = torch.zeros(len(trees), length, dtype=torch.long)
    mask = torch.full((len(trees), 1, length, length), torch.finfo(torch.float32).min)
    mask[:, 0].diagonal(dim1=1, dim2=2).zero_()  # a row that sees nothing would be NaN
    sources, labels, weights = [], [], []
    for row, tree in enumerate(trees):
        size = len(tree)
        tokens[row, :size] = torch.from_numpy(tree.tokens)
        positions[row, :size] = torch.from_numpy(tree.positions)
        mask[row, 0, :size, :size].masked_fill_(torch.from_numpy(visible(tree)), 0.0)
        sources.append(torch.from_numpy(tree.sources) + row * length)
        labels.append(torch.from_numpy(tree.labels) - first_number_row)
        weights.append(torch.from_numpy(tree.weights))
    used = sum(len(tree) for tree in trees)
    return Batch(tokens, positions, mask, torch.cat(sources), torch.cat(labels), torch.cat(weights), used)


def batches(
    bundles: Bundles, encoder: PromptEncoder, trees_per_batch: int, skip_batches: int = 0
) -> Iterator[Batch]:
    """Endless batches of bundles, trees of like size together: padding is computed like everything else."""
    per_window = _WINDOW * trees_per_batch
    skipped = skip_batches // _WINDOW
    stream = bundles.stream(skipped * per_window)
    first, _ = encoder.number_rows
    number = skipped * _WINDOW
    while True:
        trees = sorted((build(next(stream)) for _ in range(per_window)), key=len)
        order = np.random.default_rng([len(trees[0]), number]).permutation(_WINDOW)
        for index in order:
            if number >= skip_batches:
                yield collate(trees[index * trees_per_batch : (index + 1) * trees_per_batch], first)
            number += 1
