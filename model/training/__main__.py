"""`python -m model.training`: corpus -> checkpoint. On several processes under torchrun or `accelerate launch`."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.decoder import SIZES
from model.errors import JobcastError
from model.training.compiling import can_compile
from model.training.corpus import corpus_directory
from model.training.distributed import is_main_process
from model.training.run import RunSettings, run
from model.training.settings import Average, Precision, TrainSettings

_DEFAULT = RunSettings()
_T = _DEFAULT.training

#: Peak learning rates by what is trained: measured from scratch, customary for the others.
_FULL_RATE, _LORA_RATE = 2e-5, 2e-4


def main(
    directory: Annotated[Path, typer.Option(help="Where the run lives; run again to resume.")] = Path(
        "runs/default"
    ),
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = _T.steps,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    trees_per_batch: Annotated[int, typer.Option()] = _T.trees_per_batch,
    accumulate: Annotated[int, typer.Option(help="Batches per process and step.")] = _T.accumulate,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help=f"Peak. Default: {_T.peak_learning_rate}; for a base {_FULL_RATE}, with LoRA {_LORA_RATE}."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and shown histories.")] = _T.seed,
    base: Annotated[
        Path | None, typer.Option(help="Fine-tune this Hugging Face directory (Qwen3, Gemma 3 or Llama).")
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(help="Train low-rank adapters of the base, merged at the end.")
    ] = None,
    keep_rotations: Annotated[
        bool, typer.Option(help="Gemma: widen the sliding windows instead of turning them into full layers.")
    ] = False,
    average: Annotated[
        Average, typer.Option(help="Validate and end with averaged weights: ema, or tail of the run.")
    ] = _T.average,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many validations without a better one; keep the best.")
    ] = None,
    validate_every: Annotated[int, typer.Option(help="Steps between validations.")] = _T.validate_every,
    evidence_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the prompts that carry the experts' estimates.")
    ] = _T.mixture.evidence_share,
    precision: Annotated[Precision, typer.Option(help="auto: bf16 where the device has it.")] = _T.precision,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the layers; needs a C++ compiler, saves a third.")
    ] = False,
    size: Annotated[str, typer.Option(help=f"From scratch: {', '.join(SIZES)}.")] = "small",
    fsdp: Annotated[bool, typer.Option(help="Spread weights over the processes.")] = False,
    prepared: Annotated[
        Path | None, typer.Option(help="Take tokenizer, experts and examples from this run's directory.")
    ] = None,
    limit_per_source: Annotated[int | None, typer.Option(help="Fewer records, for a trial.")] = None,
    install: Annotated[Path | None, typer.Option(help="Copy the finished checkpoint there.")] = None,
) -> None:
    """Train a checkpoint on the corpus ($JOBCAST_DATA or ../shared/data)."""
    console = Console(quiet=not is_main_process())
    corpus = corpus_directory()
    if corpus is None:
        console.print("no corpus: set JOBCAST_DATA to its directory")
        raise typer.Exit(2)
    if lora_rank is not None and base is None:
        raise typer.BadParameter("--lora-rank needs a --base to adapt")
    if compiled and not can_compile():
        raise typer.BadParameter("--compile needs a C++ compiler")
    if size not in SIZES:
        raise typer.BadParameter(f"--size is one of {', '.join(SIZES)}")
    if learning_rate is None:
        adapted = _FULL_RATE if lora_rank is None else _LORA_RATE
        learning_rate = _T.peak_learning_rate if base is None else adapted
    training = TrainSettings(
        steps=steps,
        trees_per_batch=trees_per_batch,
        accumulate=accumulate,
        peak_learning_rate=learning_rate,
        precision=precision,
        compiled=compiled,
        shape=SIZES[size],
        average=average,
        patience=patience,
        validate_every=validate_every,
        seed=seed,
        base=None if base is None else str(base),
        keep_rotations=keep_rotations,
        lora_rank=lora_rank,
        sharded=fsdp,
        mixture=replace(_T.mixture, evidence_share=evidence_share),
    )
    settings = replace(
        _DEFAULT, training=training, device=device, limit_per_source=limit_per_source, prepared=prepared
    )
    try:
        made = run(corpus, directory, settings, console)
    except JobcastError as error:
        console.print(error.message)
        raise typer.Exit(2) from None
    if not is_main_process():
        return
    if install is not None:
        shutil.copytree(made, install, dirs_exist_ok=True)
    console.print(f"checkpoint: {install or made}")


if __name__ == "__main__":
    typer.run(main)
