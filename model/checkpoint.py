"""Checkpoints: a Hugging Face directory plus `jobcast.json`. Load, verify, save.

`config.json`, `model.safetensors` and `tokenizer.json` are what transformers and vLLM load as they are. `jobcast.json`
adds what the predictor needs (targets, number code, canonical-text version, token budget, calibration, support), where
the weights came from, how well they did, and the sha256 of every file. `seen.bin` is the novelty filter, `experts.npz`
holds the experts whose estimates the decoder reads as evidence.
Loading verifies the hashes, runs no remote code and reaches no network.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tokenizers import Tokenizer

from model.calibration import Calibration, calibration_for
from model.errors import CheckpointError
from model.evidence import storage
from model.evidence.history import telling
from model.jobs import KINDS
from model.jobs.job import Job
from model.novelty import SeenTrigrams
from model.numbers import NumberCode
from model.prompt import Prompt, PromptEncoder, Standing
from model.targets import Target
from model.text import TEXT_VERSION, masked_content

FORMAT_VERSION = 5
MANIFEST = "jobcast.json"
SEEN = "seen.bin"
EXPERTS = "experts.npz"
FILES = ("config.json", "model.safetensors", "tokenizer.json", SEEN, EXPERTS)

#: kind -> scope -> target -> number of training records.
Support = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class Manifest:
    """The content of jobcast.json."""

    name: str
    targets: tuple[Target, ...]
    number_code: NumberCode
    token_budget: int
    support: Support
    #: By "kind/scope/target" and stratum, see `model.calibration.stratum`.
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)
    evaluation: Mapping[str, object] = field(default_factory=dict)
    text_version: int = TEXT_VERSION
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, object]:
        """The manifest without the file hashes, as plain JSON values."""
        return {**asdict(self), "targets": [asdict(target) for target in self.targets]}

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "Manifest":
        """Raises CheckpointError on another format or text version, or a missing entry."""
        try:
            values = {key: value for key, value in content.items() if key != "files"}
            if values["format_version"] != FORMAT_VERSION:
                raise CheckpointError(f"checkpoint format is not version {FORMAT_VERSION}")
            if values["text_version"] != TEXT_VERSION:
                raise CheckpointError(
                    f"checkpoint was trained on another canonical text than version {TEXT_VERSION}"
                )
            values["targets"] = tuple(Target(**target) for target in values["targets"])  # type: ignore[attr-defined]
            calibration = values["calibration"].items()  # type: ignore[attr-defined]
            values["calibration"] = {key: Calibration(**entry) for key, entry in calibration}
            code = dict(values["number_code"])  # type: ignore[call-overload]
            values["number_code"] = NumberCode(**{**code, "widths": tuple(code["widths"])})
            return cls(**values)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{MANIFEST} is incomplete or malformed: {type(error).__name__}") from error


class Checkpoint:
    """A verified checkpoint: everything but the weights, which the engine loads from `path`."""

    def __init__(
        self, path: Path, manifest: Manifest, hashes: Mapping[str, str], *, lazily: bool = False
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = PromptEncoder(
            Tokenizer.from_file(str(path / "tokenizer.json")),
            manifest.targets,
            manifest.number_code,
            manifest.token_budget,
        )
        self._seen = SeenTrigrams.from_bytes((path / SEEN).read_bytes())
        self._experts = storage.from_bytes((path / EXPERTS).read_bytes(), lazily=lazily)
        digest = hashlib.sha256(json.dumps([sorted(hashes.items()), manifest.text_version]).encode())
        #: Identifies weights, tokenizer and text; the calibration may change without it.
        self.version = f"sha256:{digest.hexdigest()}"

    @classmethod
    def load(cls, path: Path | str, *, lazily: bool = False) -> "Checkpoint":
        """Verify and open a checkpoint directory. Raises CheckpointError.

        lazily: its experts are unpacked kind by kind, when the first job of a kind is read. For whoever reads few kinds
        or none, and whose first answers may take longer.
        """
        path = Path(path)
        try:
            content = json.loads((path / MANIFEST).read_text())
        except (OSError, ValueError):
            raise CheckpointError(f"no readable {MANIFEST} in the checkpoint directory") from None
        if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
            raise CheckpointError(f"{MANIFEST} is not an object that names its files")
        manifest = Manifest.from_json(content)
        hashes = content["files"]
        for name in FILES:
            if hashes.get(name) != _sha256(path / name):
                raise CheckpointError(f"{name} is missing or does not match its sha256 in {MANIFEST}")
        try:
            return cls(path, manifest, hashes, lazily=lazily)
        except Exception as error:  # what tokenizers raises has no class of its own
            raise CheckpointError(f"a file of the checkpoint is malformed: {error}") from error

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.manifest.targets

    @property
    def token_budget(self) -> int:
        return self.manifest.token_budget

    @property
    def summary(self) -> dict[str, object]:
        """What GET /models shows."""
        return {"version": self.version, "kinds": list(KINDS), **self.manifest.to_json()}

    def prompt(self, job: Job) -> Prompt:
        """Canonical text, history, evidence and token ids of a job.

        Of its history the runs that say what it takes: see `lower_bounds` for those that were cut off.
        """
        job = job.with_history(telling(job.history))
        content = masked_content(job)
        return self.encoder.prompt(job, self._experts.advise(job, content), content)

    def support(self, kind: str, scope: str) -> dict[str, int]:
        """Target name -> number of training records of that kind and scope; 0 where there were none."""
        known = self.manifest.support.get(kind, {}).get(scope, {})
        return {target.name: known.get(target.name, 0) for target in self.targets}

    def novelty(self, prompt: Prompt) -> float:
        """Share of the prompt's token trigrams that training never saw: 0 = nothing new, 1 = all new."""
        return self._seen.novelty(self.encoder.text_part(prompt.ids))

    def standing(self, prompt: Sequence[int]) -> Standing:
        """What a prompt says beside its text: estimates, familiarity, past runs."""
        return self.encoder.standing(prompt)

    def calibrate(
        self,
        place: str,
        quantiles: Sequence[float],
        values: Sequence[float],
        standing: Standing,
        *,
        given: bool = False,
    ) -> tuple[float, ...]:
        """Values by the checkpoint's table, see `Calibration`. quantiles must hold 0.5.

        place: kind/scope/target. standing: of the prompt. given: other targets were known, which tells more than the
        estimate knew. No value leaves the range of the number code: far out the quantiles are those of a guess, and
        what they are multiplied with must not take them to 1e30 bytes.
        """
        estimate = None if given else standing.estimates.get(place.rsplit("/", 1)[-1])
        calibrated = calibration_for(self.manifest.calibration, place, standing)(quantiles, values, estimate)
        least, largest = self.encoder.code.limits
        return tuple(min(max(value, least), largest) for value in calibrated)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write jobcast.json with the hashes of the files beside it."""
    hashes = {name: _sha256(path / name) for name in FILES}
    content = {**manifest.to_json(), "files": hashes}
    (path / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def record_evaluation(path: Path, evaluation: Mapping[str, object]) -> None:
    """Put an evaluation summary into a checkpoint's manifest; its version stays the same."""
    checkpoint = Checkpoint.load(path)
    write_manifest(path, replace(checkpoint.manifest, evaluation=evaluation))


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
