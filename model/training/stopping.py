"""Early stopping: the best weights by the validation loss, and when to give up waiting for better ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass
class Stopping:
    """Counts the validations since the best one."""

    #: Validations without a better one until the run ends; None: it never does, and its last weights count.
    patience: int | None
    best_loss: float = float("inf")
    best_step: int = 0
    waited: int = 0

    def better(self, step: int, validation: Mapping[str, float]) -> bool:
        """Take in a validation (check -> loss); whether its mean is the best so far."""
        loss = sum(validation.values()) / max(len(validation), 1)
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.waited = loss, step, 0
            return True
        self.waited += 1
        return False

    @property
    def over(self) -> bool:
        """Whether the run has waited long enough."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, float | int | None]:
        """What `load` goes on from."""
        return asdict(self)

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from a `state`; the patience stays that of the settings."""
        self.best_loss, self.best_step = float(state["best_loss"]), int(state["best_step"])
        self.waited = int(state["waited"])
