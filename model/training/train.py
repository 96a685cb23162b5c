"""The training loop: trees in, number-token loss, AdamW, on one process or many, resumable to the step.

A run lives in one directory: `settings.json`, `log.jsonl` (a line per log interval), `state.pt` (weights, optimizer,
step), `best.pt` (with a patience), `loss.png`. A run that finds its state goes on from there with the same settings and
sees the same batches as one that was never stopped.
"""

import copy
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from model.decoder import layers_of
from model.prompt import PromptEncoder
from model.training.averaging import WeightAverage
from model.training.batches import Batch, Bundles
from model.training.compiling import compile_layers, interpret_layers
from model.training.distributed import World, keep_gradients_here, spread
from model.training.examples import Example
from model.training.feeding import ahead, share_of_batches
from model.training.files import replacing
from model.training.loss import Objective, batch_loss
from model.training.plots import plot_loss
from model.training.settings import TrainSettings, learning_rate
from model.training.state import (
    BEST,
    cut_log,
    load_state,
    save_state,
    set_weights,
    weights_of,
)
from model.training.stopping import Stopping
from model.training.validation import fixed_batches, mean_losses

__all__ = [
    "Progress",
    "TrainSettings",
    "batch_loss",
    "learning_rate",
    "save_state",
    "train",
    "validation_batches",
]


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller after each log interval."""

    step: int
    loss: float
    tokens_per_second: float
    validation: dict[str, float] | None


def train(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    examples: list[Example],
    validation: list[Example],
    settings: TrainSettings,
    directory: Path,
    report: Callable[[Progress], None] = lambda _: None,
    world: World | None = None,
) -> PreTrainedModel:
    """Train until `settings.steps` or out of patience; returns the model. Interrupt it at any time and call it again.

    world: the processes that train together (None: this one, on the model's device). Each calls this alike with the
    same model; the main one alone writes, reports and gets the final model, whole even where it was sharded.
    """
    world = world or World(next(model.parameters()).device)
    torch.manual_seed(settings.seed)
    whole_model = copy.deepcopy(model) if world.sharded and world.main else model
    if not world.sharded:
        model.to(world.device)  # type: ignore[arg-type]
    return _Run(model, encoder, settings, directory, world).until_done(
        examples, validation, report, whole_model
    )


class _Run:
    """The state of a training between two steps."""

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        settings: TrainSettings,
        directory: Path,
        world: World,
    ) -> None:
        self.model, self.encoder, self.settings = model, encoder, settings
        self.directory, self.world = directory, world
        self.objective = Objective(model, encoder, settings.precision)
        self.parallel = spread(self.objective, layers_of(model), world)
        if settings.compiled:
            compile_layers(model)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.trained, settings)
        decay = settings.average_decay if settings.average == "ema" else None
        self.average = WeightAverage(self.trained, decay)
        self.stopping = Stopping(settings.patience)
        state = load_state(model, self.optimizer, directory)
        self.step = int(state["step"])
        if "average" in state:
            self.average.load(state["average"])
        if "stopping" in state:
            self.stopping.load(state["stopping"])

    def until_done(
        self,
        examples: list[Example],
        validation: list[Example],
        report: Callable[[Progress], None],
        whole_model: PreTrainedModel,
    ) -> PreTrainedModel:
        settings, world = self.settings, self.world
        log = self.directory / "log.jsonl"
        if world.main:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / "settings.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
            cut_log(log, self.step)
        bundles = Bundles(examples, self.encoder, settings.mixture, settings.seed)
        feed = share_of_batches(
            bundles,
            self.encoder,
            settings.trees_per_batch,
            skip=self.step * settings.accumulate * world.size,
            rank=world.rank,
            size=world.size,
        )
        if world.device.type != "cpu":
            feed = ahead(feed)
        checks = validation_batches(validation, self.encoder, settings)
        self.model.train()
        losses: list[torch.Tensor] = []
        nodes, since = 0, time.perf_counter()
        while self.step < settings.steps and not self.stopping.over:
            group = [next(feed) for _ in range(settings.accumulate)]
            losses.append(self._take_step(group))
            nodes += sum(batch.used for batch in group)
            checking = self.step % settings.validate_every == 0 or self.step == settings.steps
            if checking or self.step % settings.log_every == 0:
                line = self._progress(losses, nodes, since, checks if checking else None)
                if world.main:
                    with log.open("a") as file:
                        file.write(json.dumps(asdict(line)) + "\n")
                if checking:
                    self._save(line.validation or {})
                    if world.main:
                        plot_loss(log, self.directory / "loss.png")
                if world.main:
                    report(line)
                losses, nodes, since = [], 0, time.perf_counter()
        interpret_layers(self.model)
        return self._finish(whole_model)

    def _take_step(self, group: list[Batch]) -> torch.Tensor:
        """One optimizer step on a few batches; returns this process's share of the loss."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate(self.step, self.settings)
        device, size = self.world.device, self.world.size
        weight = self.world.sum(torch.stack([batch.weights.sum() for batch in group]).sum()).to(device)
        self.optimizer.zero_grad(set_to_none=True)
        shares = []
        for number, batch in enumerate(group, start=1):
            last = number == len(group)
            with nullcontext() if last else keep_gradients_here(self.parallel):
                share = self.parallel(batch.to(device), weight)
                (share * size).backward()  # gradients are averaged over the processes
            shares.append(share.detach())
        torch.nn.utils.clip_grad_norm_(self.trained, self.settings.gradient_norm)
        self.optimizer.step()
        self.step += 1
        falling = self.step > self.settings.decay_start
        if self.settings.average == "ema" or (self.settings.average == "tail" and falling):
            self.average.update()
        return torch.stack(shares).sum()

    def _progress(
        self, losses: list[torch.Tensor], nodes: int, since: float, checks: dict[str, list[Batch]] | None
    ) -> Progress:
        steps = self.world.sum(torch.stack(losses)).tolist()
        speed = nodes * self.world.size / (time.perf_counter() - since)
        checked = None if checks is None else self._validate(checks)
        return Progress(self.step, sum(steps) / len(steps), speed, checked)

    def _validate(self, checks: dict[str, list[Batch]]) -> dict[str, float]:
        def loss(batch: Batch) -> torch.Tensor:
            batch = batch.to(self.world.device)
            found: torch.Tensor = self.objective(batch, batch.weights.sum())
            return found

        self.model.train(False)
        with self.average.applied():
            found = mean_losses(loss, checks, self.world)
        self.model.train()
        return found

    def _save(self, validation: dict[str, float]) -> None:
        main = self.world.main
        # The best weights first: killed in between, the run does this validation again.
        if self.settings.patience is not None and validation and self.stopping.better(self.step, validation):
            with self.average.applied():
                best = weights_of(self.model, keep=main)
                if main:
                    with replacing(self.directory / BEST) as new:
                        torch.save(best, new)
        extra: dict[str, object] = {"stopping": self.stopping.state()}
        if self.settings.average != "none":
            extra["average"] = self.average.state()
        save_state(self.model, self.optimizer, self.step, self.directory, extra, write=main)

    def _finish(self, whole_model: PreTrainedModel) -> PreTrainedModel:
        """The best or averaged weights in a model that runs in one process."""
        if self.settings.patience is not None and self.stopping.best_step:
            if self.world.main:
                best = torch.load(self.directory / BEST, map_location="cpu", weights_only=True)
                set_weights(whole_model, best)
            return whole_model
        if self.world.sharded:
            with self.average.applied():
                final = weights_of(self.model, keep=self.world.main)
            if self.world.main:
                set_weights(whole_model, final)
        else:
            self.average.keep()
        return whole_model


def validation_batches(
    examples: list[Example], encoder: PromptEncoder, settings: TrainSettings, per_source: int = 60
) -> dict[str, list[Batch]]:
    """Fixed batches of the validation records, without and with their history."""
    return fixed_batches(examples, encoder, settings.mixture, settings.trees_per_batch, per_source)


def _optimizer(trained: list[torch.nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    matrices = [p for p in trained if p.dim() >= 2]
    vectors = [p for p in trained if p.dim() < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.peak_learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
