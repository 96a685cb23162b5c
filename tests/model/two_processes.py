"""What each process of the two-process tests runs, under torchrun or `accelerate launch`: trainings into a directory.

<launcher> -m tests.model.two_processes DIRECTORY        (with a tiny base in DIRECTORY/base)
"""

import atexit
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from tokenizers import Tokenizer
from torch.distributed.tensor import DTensor

from model.numbers import NumberCode
from model.prompt import PromptEncoder
from model.targets import DEFAULT_TARGETS
from model.training import train as loop
from model.training.base import base_tokenizer
from model.training.batches import Mixture
from model.training.distributed import World, join
from model.training.examples import Example
from model.training.start import finished_model, starting_model
from model.training.train import TrainSettings, train
from tests.model.tiny_bases import toy_example

CODE = NumberCode()


def settings(base: Path, **changes: object) -> TrainSettings:
    chosen = TrainSettings(
        steps=8,
        trees_per_batch=2,
        peak_learning_rate=1e-3,
        warm_up_steps=2,
        log_every=2,
        validate_every=4,
        base=str(base),
        mixture=Mixture(nodes_per_tree=64),
    )
    return replace(chosen, **changes)  # type: ignore[arg-type]


#: Not clipped: a wrong scale of the gradients shows in the optimizer's moments.
AVERAGED: dict[str, object] = {"average": "ema", "average_decay": 0.8, "gradient_norm": 1e9}
#: Clipped at every step: so does a wrong norm of sharded gradients.
ADAPTED: dict[str, object] = {"lora_rank": 2, "patience": 1, "gradient_norm": 1e-3}


def examples(encoder: PromptEncoder) -> list[Example]:
    return [toy_example(encoder, number, range(20, 21 + number % 9)) for number in range(60)]


def run(directory: Path, name: str, chosen: TrainSettings, world: World) -> None:
    """Train, and in the main process write the weights to DIRECTORY/name.pt."""
    tokenizer: Tokenizer = base_tokenizer(Path(chosen.base or ""), DEFAULT_TARGETS, CODE)
    encoder = PromptEncoder(tokenizer, DEFAULT_TARGETS, CODE, 512)
    shown = examples(encoder)
    model = starting_model(chosen, encoder, DEFAULT_TARGETS, CODE)
    trained = train(model, encoder, shown, shown[:21], chosen, directory / name, world=world)
    assert isinstance(next(model.parameters()), DTensor) == world.sharded
    if world.main:
        torch.save(finished_model(trained, chosen).state_dict(), directory / f"{name}.pt")


class Interrupted(Exception):
    pass


def run_interrupted(directory: Path, name: str, chosen: TrainSettings, world: World) -> None:
    """The same, killed in every process right after its first state was written."""
    saved = loop._Run._save

    def save_and_die(self: loop._Run, validation: dict[str, float]) -> None:
        saved(self, validation)
        raise Interrupted

    with mock.patch.object(loop._Run, "_save", save_and_die):
        try:
            run(directory, name, chosen, world)
        except Interrupted:
            return
    raise AssertionError("was not interrupted")


def write_threads(directory: Path) -> None:
    """The names of this process's threads, to DIRECTORY/threads-RANK."""
    names = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()]
    (directory / f"threads-{os.environ['RANK']}").write_text("".join(names))


def main(directory: Path) -> None:
    atexit.register(write_threads, directory)  # registered before the training's own, so called after it
    base = directory / "base"
    with join("cpu") as world:
        assert world.size == 2
        with world.main_first():
            assert (directory / "made").exists() == (not world.main)
            (directory / "made").touch()
        sharded = replace(world, sharded=True)
        averaged = settings(base, **AVERAGED)
        run(directory, "copied", averaged, world)
        run(directory, "sharded", averaged, sharded)
        run_interrupted(directory, "resumed", averaged, sharded)
        run(directory, "resumed", averaged, sharded)
        run_interrupted(directory, "alone", averaged, sharded)  # the test goes on in one process
        run(directory, "adapted", settings(base, **ADAPTED), sharded)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with mock.patch.object(loop, "plot_loss"):  # plots would take longer than the training
        main(Path(sys.argv[1]))
