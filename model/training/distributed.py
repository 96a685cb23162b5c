"""Several processes as one training: ranks from the launcher, data parallel or sharded (FSDP), whole tensors to disk.

`torchrun` and `accelerate launch` both start the processes and tell each its rank; accelerate's PartialState reads it.
Wrapping is torch's own: accelerate's Accelerator shards on GPUs only, and here the same code must run on CPUs.
Every process draws other batches; a step's loss is divided by the weights of all of them, so N processes with one
batch each make the step that one process makes with N.
"""

import atexit
import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

#: One process prepares prompts while the others wait for it.
_PATIENCE = timedelta(hours=12)

#: What `spread` laid tensors out on. torch's caches keep a mesh, and the mesh its process group, to the very end.
_meshes: list[DeviceMesh] = []


@dataclass(frozen=True)
class World:
    """The processes of a training and this one's place among them. Of one process by default."""

    device: torch.device
    rank: int = 0
    size: int = 1
    #: Weights and optimizer spread over the processes (FSDP) instead of copied to each.
    sharded: bool = False

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, on the world's device."""
        if self.size == 1:
            return tensor
        total = tensor.to(self.device, copy=True)
        distributed.all_reduce(total)
        return total

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before the others do: they find the files it made."""
        if not self.main:
            distributed.barrier()
        yield
        if self.main and self.size > 1:
            distributed.barrier()


def is_main_process() -> bool:
    """Whether the launcher made this process the one that writes and reports; true without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def join(device: str, *, sharded: bool = False) -> Iterator[World]:
    """The world that the launcher started this process in; leaves it at the end.

    device: "cpu" or "cuda" (each process takes the GPU of its local rank). sharded: also where
    `accelerate launch --use_fsdp` says so.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(torch.device(device))
        return
    from accelerate import PartialState  # type: ignore[import-untyped]  # several processes alone need it

    atexit.register(_end_groups)
    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    sharded = sharded or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    place = torch.device("cpu") if device == "cpu" else state.device
    try:
        yield World(place, state.process_index, state.num_processes, sharded)
    finally:
        distributed.destroy_process_group()
        PartialState._reset_state()


def _end_groups() -> None:
    """Let the process groups end, which joins gloo's threads, while the interpreter is still whole.

    A thread that lets go of the last collective's tensors later asks a vanishing interpreter for its lock, and the
    process, its work done, aborts: pytorch/pytorch#190489. At exit, since until then callers may hold the model.
    """
    for mesh in _meshes:
        getattr(mesh, "_pg_registry", {}).clear()  # torch 2.11 has none: its meshes know groups by name
    gc.collect()


def spread(module: torch.nn.Module, layers: Iterable[torch.nn.Module], world: World) -> torch.nn.Module:
    """The module as all processes run it together. layers: the parts that FSDP gathers one after another.

    Sharding happens in place and turns parameters into DTensors: make the optimizer afterwards.
    """
    if world.size == 1:
        return module
    if not world.sharded:
        return DistributedDataParallel(module)
    mesh = init_device_mesh(world.device.type, (world.size,))
    _meshes.append(mesh)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    # Resharded after forward too: a validation has no backward pass that would do it.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    return module


def keep_gradients_here(module: torch.nn.Module) -> AbstractContextManager[None]:
    """For all but a step's last batch: gradients add up in this process without being exchanged.

    FSDP exchanges every time: whole gradients would cost the memory that sharding saves.
    """
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def is_sharded(module: torch.nn.Module) -> bool:
    """Whether its parameters are spread over processes."""
    return isinstance(module, FSDPModule)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with the parts of all processes, on the CPU where it had parts. All processes must ask together."""
    return tensor.full_tensor().detach().cpu() if isinstance(tensor, DTensor) else tensor.detach()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part, sharing memory with the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def share_of(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole tensor that is laid out as `like` is, on its device."""
    return local(spread_like(tensor, like))


def spread_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, known to every process, laid out as `like` is."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    moved = tensor.to(like.device_mesh.device_type)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)
