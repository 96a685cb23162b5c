"""The validation loss: fixed batches of held-out records, without and with their history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from model.prompt import PromptEncoder
from model.training.batches import Batch, Bundles, Mixture, collate
from model.training.distributed import World
from model.training.examples import Example, evenly_spaced
from model.training.tree import build


def fixed_batches(
    examples: Sequence[Example],
    encoder: PromptEncoder,
    mixture: Mixture,
    trees_per_batch: int,
    per_source: int = 60,
) -> dict[str, list[Batch]]:
    """Check name -> batches of evenly spaced records of each source."""
    found: dict[str, list[Batch]] = {}
    for name, share in (("text", 0.0), ("history", 1.0)):
        shown = replace(mixture, history_share=share, joint_share=0.0, evidence_share=1.0, unknown_share=0.0)
        usable = (example for example in examples if example.runs or not share)
        picked = evenly_spaced(usable, lambda example: example.source, per_source)
        if not picked:
            continue
        trees = [build(paths) for paths in Bundles(picked, encoder, shown, seed=0).one_round()]
        first, _ = encoder.number_rows
        found[name] = [
            collate(trees[i : i + trees_per_batch], first) for i in range(0, len(trees), trees_per_batch)
        ]
    return found


@torch.no_grad()
def mean_losses(
    loss: Callable[[Batch], torch.Tensor], checks: Mapping[str, Sequence[Batch]], world: World
) -> dict[str, float]:
    """Check name -> mean loss per number token; each process does its share of the batches.

    All processes do equally many, some of them for nothing: a sharded model is gathered by all of them together.
    """
    found = {}
    for name, group in checks.items():
        total, weight = 0.0, 0.0
        for start in range(0, len(group), world.size):
            index = start + world.rank
            batch = group[min(index, len(group) - 1)]
            mass = float(batch.weights.sum()) if index < len(group) else 0.0
            total += float(loss(batch)) * mass
            weight += mass
        if world.size > 1:
            total, weight = world.sum(torch.tensor([total, weight])).tolist()
        found[name] = total / weight
    return found
