"""What a run writes to go on from: state.pt (weights, optimizer, step, and what else the loop remembers), best.pt.

Always whole tensors, whatever the number of processes: a run may go on with another number, or sharded where it was
not. Of a model with frozen weights only the others are written; the frozen ones come from its base again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from model.training.distributed import spread_like, whole
from model.training.files import replacing

STATE, BEST = "state.pt", "best.pt"


def weights_of(model: PreTrainedModel, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Name -> whole tensor, of what is trained. All processes must ask together; only `keep` gets the answer."""
    gathered = {}
    for name, tensor in _trained(model).items():
        complete = whole(tensor)
        if keep:
            gathered[name] = complete
    return gathered


def set_weights(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Put `weights_of` back, into each process's part where the model is sharded. Raises KeyError for another model."""
    there = _trained(model)
    if set(there) != set(weights):
        raise KeyError("the run's state belongs to another model: other layers, or with adapters and without")
    laid_out = {name: spread_like(tensor, there[name]) for name, tensor in weights.items()}
    model.load_state_dict(laid_out, strict=False)


def save_state(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    step: int,
    directory: Path,
    extra: Mapping[str, object] | None = None,
    *,
    write: bool = True,
) -> None:
    """Write state.pt; an interruption leaves the old one or the new one, whole.

    extra: more entries. write: False in all but one of several processes, which take part in gathering all the same.
    """
    weights = weights_of(model, keep=write)
    kept = optimizer.state_dict()
    slots = {
        index: {key: whole(value) for key, value in slot.items()} for index, slot in kept["state"].items()
    }
    if write:
        content = {"model": weights, "optimizer": {**kept, "state": slots}, "step": step, **(extra or {})}
        with replacing(directory / STATE) as new:
            torch.save(content, new)


def load_state(model: PreTrainedModel, optimizer: torch.optim.Optimizer, directory: Path) -> dict[str, Any]:
    """Put weights and optimizer back; returns the rest of state.pt, {"step": 0} where there is none."""
    path = directory / STATE
    if not path.exists():
        return {"step": 0}
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    set_weights(model, state.pop("model"))
    kept = state.pop("optimizer")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, slot in kept["state"].items():
        for key, value in slot.items():
            if value.dim():  # the step counter is a number
                slot[key] = spread_like(value, parameters[index])
    optimizer.load_state_dict(kept)
    return state


def cut_log(log: Path, step: int) -> None:
    """Drop log lines of steps that a resumed run will do again."""
    if log.exists():
        lines = [
            line for line in log.read_text().splitlines(keepends=True) if json.loads(line)["step"] <= step
        ]
        log.write_text("".join(lines))


def _trained(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if len(trained) == sum(1 for _ in model.parameters()):
        return dict(model.state_dict())
    return trained
