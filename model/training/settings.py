"""What decides a training: sizes, schedule, precision, where it starts, how weights are averaged."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from model.decoder import Shape
from model.training.batches import Mixture

Average = Literal["none", "ema", "tail"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what a run computes."""

    steps: int = 4000
    trees_per_batch: int = 6
    #: Batches of each process in one optimizer step.
    accumulate: int = 1
    peak_learning_rate: float = 1.5e-3
    warm_up_steps: int = 100
    #: Share of the steps over which the learning rate falls to zero at the end.
    decay_share: float = 0.4
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    #: bf16 is autocast: weights, optimizer and loss stay fp32. "auto": where the device multiplies bf16 natively.
    precision: Precision = "auto"
    #: Layers as compiled code (`model.training.compiling`): rounded otherwise in the last places.
    compiled: bool = False
    #: The weights a run validates and ends with: the last ones, or an average (`model.training.averaging`).
    average: Average = "none"
    average_decay: float = 0.999
    #: Validations without a better one until the run stops and takes the best weights; None: all steps, last weights.
    patience: int | None = None
    log_every: int = 20
    validate_every: int = 250
    seed: int = 1
    #: Directory of a pretrained decoder to start from instead of fresh weights of `shape` (`model.training.base`).
    base: str | None = None
    #: Of the base's sliding-window layers, see `model.training.base.attend_everywhere`.
    keep_rotations: bool = False
    #: Train low-rank adapters of this rank instead of all weights (`model.training.lora`).
    lora_rank: int | None = None
    #: Of several processes: weights and optimizer spread over them (FSDP) instead of a copy in each.
    sharded: bool = False
    shape: Shape = field(default_factory=Shape)
    mixture: Mixture = field(default_factory=Mixture)

    @property
    def decay_start(self) -> float:
        """The step at which the learning rate begins to fall."""
        return self.steps * (1 - self.decay_share)

    def summary(self) -> dict[str, object]:
        """For a checkpoint's provenance: as JSON values, the base by its name alone."""
        return {**asdict(self), "base": None if self.base is None else Path(self.base).name}


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, constant, then linear to zero."""
    warm = min(1.0, (step + 1) / settings.warm_up_steps)
    left = (settings.steps - step) / max(settings.steps - settings.decay_start, 1)
    return settings.peak_learning_rate * min(warm, left, 1.0)
