"""Two processes on the CPU train as one does with the batches of both: data parallel, sharded, resumed, adapted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.training.distributed import World
from tests.model import two_processes
from tests.model.tiny_bases import write_base

ALONE = World(torch.device("cpu"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that two processes under torchrun worked in."""
    directory = tmp_path_factory.mktemp("two")
    write_base(directory / "base", "gemma3")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "tests.model.two_processes", str(directory)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return directory


def weights(directory: Path, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(directory / f"{name}.pt")
    return found


def moments(directory: Path, name: str) -> dict[str, torch.Tensor]:
    """Running means of the gradients, by the optimizer's numbering."""
    state = torch.load(directory / name / "state.pt")["optimizer"]["state"]
    return {str(index): slot["exp_avg"] for index, slot in state.items()}


def alone(directory: Path, name: str, **changes: object) -> dict[str, torch.Tensor]:
    """One process that takes two batches a step."""
    chosen = two_processes.settings(directory / "base", accumulate=2, **changes)
    two_processes.run(directory, name, chosen, ALONE)
    return weights(directory, name)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5, msg=name)


def losses(directory: Path, name: str) -> list[str]:
    return (directory / name / "log.jsonl").read_text().splitlines()


def test_data_parallel_and_sharded_training_equal_one_process_with_the_batches_of_both(made: Path) -> None:
    expected = alone(made, "one", **two_processes.AVERAGED)
    start = load_file(made / "base" / "model.safetensors")
    moved = [(expected[name][: len(old)] - old).abs().max() for name, old in start.items()]
    assert min(moved) > 1e-3  # a hundred times the tolerance
    for name in ("copied", "sharded"):
        assert_same(weights(made, name), expected)
        assert_same(moments(made, name), moments(made, "one"))
    assert len(losses(made, "copied")) == len(losses(made, "sharded")) == len(losses(made, "one")) == 4


def test_a_resumed_sharded_run_ends_where_an_uninterrupted_one_does(made: Path) -> None:
    assert_same(weights(made, "resumed"), weights(made, "sharded"))


def test_a_sharded_run_can_go_on_in_one_process(made: Path) -> None:
    assert torch.load(made / "alone" / "state.pt")["step"] == 4
    assert_same(alone(made, "alone", **two_processes.AVERAGED), weights(made, "sharded"))


def test_sharded_low_rank_training_with_early_stopping_equals_that_of_one_process(made: Path) -> None:
    assert_same(weights(made, "adapted"), alone(made, "adapted-alone", **two_processes.ADAPTED))
    found, expected = moments(made, "adapted"), moments(made, "adapted-alone")
    assert_same({n: m * 1e3 for n, m in found.items()}, {n: m * 1e3 for n, m in expected.items()})


def test_no_thread_of_the_process_groups_outlives_the_training(made: Path) -> None:
    """One that does may abort the process that it is in, now and then, when the interpreter ends."""
    for rank in range(2):
        names = (made / f"threads-{rank}").read_text().split()
        assert any("python" in name for name in names), names
        assert not [name for name in names if "gloo" in name]
