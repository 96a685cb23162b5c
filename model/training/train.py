"""The training loop: trees in, number-token loss, AdamW, resumable to the step.

A run lives in one directory: `settings.json`, `log.jsonl` (a line per log interval), `state.pt` (weights, optimizer,
step), `loss.png`. A run that finds its state goes on from there with the same settings and sees the same batches as
one that was never stopped.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from model.decoder import Shape, hidden_states, number_logits
from model.prompt import PromptEncoder
from model.training.batches import Batch, Bundles, Mixture, batches, collate
from model.training.examples import Example
from model.training.plots import plot_loss
from model.training.tree import build


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what a run computes."""

    steps: int = 4000
    trees_per_batch: int = 6
    peak_learning_rate: float = 1.5e-3
    warm_up_steps: int = 100
    #: Share of the steps over which the learning rate falls to zero at the end.
    decay_share: float = 0.4
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    log_every: int = 20
    validate_every: int = 250
    seed: int = 1
    shape: Shape = field(default_factory=Shape)
    mixture: Mixture = field(default_factory=Mixture)


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller after each log interval."""

    step: int
    loss: float
    tokens_per_second: float
    validation: dict[str, float] | None


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, constant, then linear to zero."""
    warm = min(1.0, (step + 1) / settings.warm_up_steps)
    decay_from = settings.steps * (1 - settings.decay_share)
    left = (settings.steps - step) / max(settings.steps - decay_from, 1)
    return settings.peak_learning_rate * min(warm, left, 1.0)


def train(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    examples: list[Example],
    validation: list[Example],
    settings: TrainSettings,
    directory: Path,
    report: Callable[[Progress], None] = lambda _: None,
) -> PreTrainedModel:
    """Train until `settings.steps`; returns the model. Interrupt it at any time and call it again."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "settings.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
    torch.manual_seed(settings.seed)
    device = next(model.parameters()).device
    optimizer = _optimizer(model, settings)
    step = _resume(model, optimizer, directory, device)
    bundles = Bundles(examples, encoder, settings.mixture, settings.seed)
    checks = validation_batches(validation, encoder, settings)
    log = directory / "log.jsonl"
    _cut_log(log, step)
    model.train()
    losses: list[float] = []
    tokens, since = 0, time.perf_counter()
    for batch in batches(bundles, encoder, settings.trees_per_batch, skip_batches=step):
        if step >= settings.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        loss = batch_loss(model, batch, encoder, device)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_norm)
        optimizer.step()
        step += 1
        losses.append(loss.item())
        tokens += batch.used
        checking = step % settings.validate_every == 0 or step == settings.steps
        if checking or step % settings.log_every == 0:
            speed = tokens / (time.perf_counter() - since)
            checked = validate(model, checks, encoder, device) if checking else None
            line = Progress(step, sum(losses) / len(losses), speed, checked)
            with log.open("a") as file:
                file.write(json.dumps(asdict(line)) + "\n")
            if checking:
                save_state(model, optimizer, step, directory)
                plot_loss(log, directory / "loss.png")
            report(line)
            losses, tokens, since = [], 0, time.perf_counter()
    return model


def batch_loss(
    model: PreTrainedModel, batch: Batch, encoder: PromptEncoder, device: torch.device
) -> torch.Tensor:
    """Weighted mean cross-entropy over the batch's number tokens, softmax over all number tokens."""
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        states = hidden_states(model, batch.tokens, batch.positions, batch.mask)
        picked = states.flatten(0, 1)[batch.sources]
        logits = number_logits(model, picked, encoder.number_rows)
    losses = functional.cross_entropy(logits.float(), batch.labels, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


def validation_batches(
    examples: list[Example], encoder: PromptEncoder, settings: TrainSettings, per_source: int = 60
) -> dict[str, list[Batch]]:
    """Fixed batches of the validation records, without and with their history."""
    found: dict[str, list[Batch]] = {}
    for name, share in (("text", 0.0), ("history", 1.0)):
        mixture = Mixture(**{**asdict(settings.mixture), "history_share": share, "joint_share": 0.0})
        picked = _spread(examples, per_source, with_runs=share > 0)
        if not picked:
            continue
        bundles = Bundles(picked, encoder, mixture, seed=0)
        trees = [build(paths) for paths in bundles.one_round()]
        size = settings.trees_per_batch
        first, _ = encoder.number_rows
        found[name] = [collate(trees[i : i + size], first) for i in range(0, len(trees), size)]
    return found


def _spread(examples: Iterable[Example], per_source: int, *, with_runs: bool) -> list[Example]:
    """Evenly spaced examples of each source."""
    by_source: dict[str, list[Example]] = {}
    for example in examples:
        if example.runs or not with_runs:
            by_source.setdefault(example.source, []).append(example)
    return [e for group in by_source.values() for e in group[:: max(1, math.ceil(len(group) / per_source))]]


@torch.no_grad()
def validate(
    model: PreTrainedModel, checks: dict[str, list[Batch]], encoder: PromptEncoder, device: torch.device
) -> dict[str, float]:
    """Mean loss per number token on the validation batches."""
    model.train(False)
    found = {}
    for name, group in checks.items():
        total, weight = 0.0, 0.0
        for batch in group:
            mass = float(batch.weights.sum())
            total += float(batch_loss(model, batch, encoder, device)) * mass
            weight += mass
        found[name] = total / weight
    model.train()
    return found


def save_state(model: PreTrainedModel, optimizer: torch.optim.Optimizer, step: int, directory: Path) -> None:
    """Write state.pt; an interruption leaves the old one or the new one, whole."""
    new = directory / "state.pt.new"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, new)
    new.replace(directory / "state.pt")


def _resume(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, directory: Path, device: torch.device
) -> int:
    path = directory / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _cut_log(log: Path, step: int) -> None:
    """Drop log lines of steps that a resumed run will do again."""
    if log.exists():
        lines = [
            line for line in log.read_text().splitlines(keepends=True) if json.loads(line)["step"] <= step
        ]
        log.write_text("".join(lines))


def _optimizer(model: PreTrainedModel, settings: TrainSettings) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.peak_learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
