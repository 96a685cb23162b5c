"""From corpus to checkpoint, in one directory, each stage resumable.

corpus -> tokenizer.json -> experts.npz, held_out.npz -> examples.pkl -> state.pt (train) -> checkpoint/
                                                                        (weights, experts, calibration, support)
"""

import io
import json
import pickle
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from model.checkpoint import EXPERTS, SEEN, Manifest, Support, write_manifest
from model.engines.torch_engine import TorchEngine
from model.evidence import storage
from model.novelty import SeenTrigrams
from model.numbers import NumberCode
from model.prompt import PromptEncoder, special_tokens
from model.targets import DEFAULT_TARGETS
from model.training.base import base_tokenizer
from model.training.calibration import fit_calibration
from model.training.corpus import Histories, Record, load, scope_of
from model.training.distributed import World, join
from model.training.evidence import dialect_of, facts_of_records, fit_experts
from model.training.examples import Example, examples, text_of
from model.training.files import write_whole
from model.training.forking import RECORDS, forked
from model.training.growing import EvidenceSettings
from model.training.held_out import HeldOut
from model.training.reserved import reserved_groups
from model.training.start import finished_model, starting_model
from model.training.tokenizer import balanced, train_tokenizer
from model.training.train import Progress as Step
from model.training.train import TrainSettings, train
from model.training.views import is_view, with_earlier_views

_TOKENIZER, _HELD_OUT, _EXAMPLES = "tokenizer.json", "held_out.npz", "examples.pkl"


@dataclass(frozen=True)
class RunSettings:
    """What a run reads and makes; `training` decides what the loop computes."""

    name: str = "jobcast-default"
    sources: tuple[str, ...] | None = None
    #: At most so many train records per source (None: all); for trials.
    limit_per_source: int | None = None
    vocabulary_size: int = 8192
    tokenizer_characters_per_source: int = 3_000_000
    token_budget: int = 512
    number_code: NumberCode = field(default_factory=NumberCode)
    processes: int = 2
    device: str = "cpu"
    #: Another run whose tokenizer, experts and examples serve here too: one that differs in `training` alone.
    prepared: Path | None = None
    training: TrainSettings = field(default_factory=TrainSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)


def run(corpus: Path, directory: Path, settings: RunSettings, console: Console) -> Path:
    """Make a checkpoint from a corpus; returns its directory. Call it again to go on after an interruption."""
    directory.mkdir(parents=True, exist_ok=True)
    with join(settings.device, sharded=settings.training.sharded) as world, _progress(console) as progress:
        with world.main_first():  # one process reads the corpus, the others load what it made
            _take_over(settings.prepared, directory)
            records = load_records(corpus, settings)
            encoder = _encoder(records, directory, settings, progress)
            held_out = _evidence(records, directory, settings, progress)
            prepared = _examples(records, encoder, held_out, directory, settings, progress)
        parts = _parts(records, prepared)
        training, validation = ([example for _, example in parts[name]] for name in ("train", "val"))
        model = _train(training, validation, encoder, directory, settings, progress, console, world)
    if not world.main:
        return directory / "checkpoint"
    model = finished_model(model, settings.training)
    return finish(model, encoder, records, prepared, corpus, directory, settings)


def _parts(records: Sequence[Record], prepared: Sequence[Example]) -> dict[str, list[tuple[Record, Example]]]:
    """What the decoder learns from (train), is checked on (val), and has never seen the group of (reserved)."""
    reserved = reserved_groups(records)
    parts: dict[str, list[tuple[Record, Example]]] = {"train": [], "val": [], "reserved": []}
    for record, example in zip(records, prepared, strict=True):
        if example.answers:
            strange = record.split == "train" and (record.source, record.group) in reserved
            parts["reserved" if strange else record.split].append((record, example))
    return parts


def _take_over(prepared: Path | None, directory: Path) -> None:
    """What does not depend on the training settings, unless the directory has its own."""
    for name in (_TOKENIZER, EXPERTS, _HELD_OUT, _EXAMPLES) if prepared else ():
        if prepared and not (directory / name).exists():
            shutil.copy(prepared / name, directory / name)


def load_records(corpus: Path, settings: RunSettings) -> list[Record]:
    """Train and val records, each source cut to the limit by even spacing; then some as they are known earlier."""
    records = load(corpus, settings.sources, ["train", "val"])
    if (limit := settings.limit_per_source) is not None:
        groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            groups[record.source, record.split].append(record)
        records = [r for group in groups.values() for r in group[:: max(1, -(-len(group) // limit))]]
    return with_earlier_views(records)


def _encoder(
    records: Sequence[Record], directory: Path, settings: RunSettings, progress: Progress
) -> PromptEncoder:
    path = directory / _TOKENIZER
    if not path.exists() and settings.training.base is not None:
        base_tokenizer(Path(settings.training.base), DEFAULT_TARGETS, settings.number_code).save(str(path))
    if not path.exists():
        train_only = [r for r in records if r.split == "train" and not is_view(r)]
        task = progress.add_task("texts for the tokenizer", total=len(train_only))

        def texts() -> "list[tuple[str, str]]":
            found = []
            for record, text in zip(
                train_only, forked(text_of, train_only, settings.processes, chunk=RECORDS), strict=True
            ):
                found.append((record.source, text))
                progress.advance(task)
            return found

        special = special_tokens(DEFAULT_TARGETS, settings.number_code)
        kept = balanced(texts(), settings.tokenizer_characters_per_source)
        train_tokenizer(kept, special, settings.vocabulary_size).save(str(path))
    return PromptEncoder(
        Tokenizer.from_file(str(path)), DEFAULT_TARGETS, settings.number_code, settings.token_budget
    )


def _evidence(
    records: Sequence[Record], directory: Path, settings: RunSettings, progress: Progress
) -> HeldOut:
    """What the experts say of records that they do not know: fitted once, then loaded."""
    path = directory / _HELD_OUT
    names = [target.name for target in DEFAULT_TARGETS]
    if not path.exists():
        task = progress.add_task("facts", total=len(records))
        facts = facts_of_records(records, settings.processes, lambda: progress.advance(task))
        dialects = {dialect_of(r) for r in records if r.split == "train"}
        fitted = progress.add_task("experts", total=len(dialects))
        experts, made = fit_experts(
            records,
            facts,
            names,
            settings.evidence,
            processes=settings.processes,
            advance=lambda: progress.advance(fitted),
            stored=directory / "experts",
        )
        write_whole(directory / EXPERTS, storage.to_bytes(experts))
        content = io.BytesIO()
        np.savez_compressed(content, **vars(made))
        write_whole(path, content.getvalue())
    with np.load(path, allow_pickle=False) as stored:
        return HeldOut(**stored)


def _examples(
    records: Sequence[Record],
    encoder: PromptEncoder,
    held_out: HeldOut,
    directory: Path,
    settings: RunSettings,
    progress: Progress,
) -> list[Example]:
    path = directory / _EXAMPLES
    if path.exists():
        with path.open("rb") as file:
            return pickle.load(file)  # type: ignore[no-any-return]
    task = progress.add_task("prompts", total=len(records))
    made = examples(
        records,
        encoder,
        Histories(records),
        held_out=held_out,
        processes=settings.processes,
        advance=lambda: progress.advance(task),
    )
    write_whole(path, pickle.dumps(made, protocol=pickle.HIGHEST_PROTOCOL))
    return made


def _train(
    training: list[Example],
    validation: list[Example],
    encoder: PromptEncoder,
    directory: Path,
    settings: RunSettings,
    progress: Progress,
    console: Console,
    world: World,
) -> PreTrainedModel:
    model = starting_model(settings.training, encoder, DEFAULT_TARGETS, settings.number_code)
    task = progress.add_task("training", total=settings.training.steps)

    def report(step: Step) -> None:
        progress.update(task, completed=step.step, description=f"training, loss {step.loss:.3f}")
        if step.validation:
            checked = ", ".join(f"{name} {loss:.4f}" for name, loss in step.validation.items())
            console.print(
                f"step {step.step}: loss {step.loss:.4f}, validation {checked}, "
                f"{step.tokens_per_second:,.0f} tokens/s"
            )

    return train(model, encoder, training, validation, settings.training, directory, report, world)


def finish(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    records: Sequence[Record],
    prepared: Sequence[Example],
    corpus: Path,
    directory: Path,
    settings: RunSettings,
) -> Path:
    """Write the checkpoint directory: weights, tokenizer, novelty filter, calibration, provenance."""
    checkpoint = directory / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    model.save_pretrained(checkpoint)
    (checkpoint / "generation_config.json").unlink(missing_ok=True)
    shutil.copy(directory / _TOKENIZER, checkpoint / _TOKENIZER)
    seen = SeenTrigrams()
    support: Support = {}
    counts: defaultdict[str, int] = defaultdict(int)
    texts = set()
    for record, example in zip(records, prepared, strict=True):
        if record.split != "train":
            continue
        counts[record.source] += 1
        # A view of a record is no further job.
        jobs = 0 if is_view(record) else 1
        scope = support.setdefault(record.kind, {}).setdefault(scope_of(record), {})
        for name in record.targets:
            scope[name] = scope.get(name, 0) + jobs
        if example.text not in texts:
            texts.add(example.text)
            seen.add(example.text)
    (checkpoint / SEEN).write_bytes(seen.to_bytes())
    shutil.copy(directory / EXPERTS, checkpoint / EXPERTS)
    engine = TorchEngine(checkpoint, encoder, device=settings.device)
    engine.use(model)
    parts = _parts(records, prepared)
    manifest = Manifest(
        name=settings.name,
        targets=DEFAULT_TARGETS,
        number_code=settings.number_code,
        token_budget=settings.token_budget,
        support=support,
        calibration=fit_calibration(engine, encoder, parts["val"], parts["reserved"]),
        provenance={
            "trained_at": datetime.now(UTC).date().isoformat(),
            "code_version": _code_version(),
            "records": dict(sorted(counts.items())),
            "reserved_for_calibration": len(parts["reserved"]),
            "distinct_prompts": len(texts),
            "sources": _source_commits(corpus),
            "settings": settings.training.summary(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "device": settings.device,
            "validation_loss": _last_validation(directory),
            "novelty_filter_fill": round(seen.fill, 4),
        },
    )
    write_manifest(checkpoint, manifest)
    return checkpoint


def _source_commits(corpus: Path) -> dict[str, str]:
    """Source -> repository @ commit, from the corpus' own table."""
    path = corpus / "sources.md"
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) >= 2 and "@" in cells[1]:
            found[cells[0].split(" ")[0]] = cells[1]
    return found


def _code_version() -> str:
    """The commit the code stands at, with a mark where the tree differs from it; "unknown" outside of git."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def _last_validation(directory: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    checked = [line["validation"] for line in lines if line["validation"]]
    return checked[-1] if checked else {}


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
