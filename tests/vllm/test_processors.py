"""Our logits processor behind both of vLLM's interfaces: nothing that happens to a batch mixes two requests."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from model.decoding import quantile_walk, run_walk
from model.engines.vllm import v1, v2
from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask
from model.engines.vllm.walks import ENDED

VOCABULARY = 600


def params(name: str, tau: float) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=4, extra_args=Ask(name, tau).to_extra_args())


PLAIN = SamplingParams(temperature=0.0, max_tokens=64)


class Source:
    """Logits that depend on a request and on what it has written."""

    def __init__(self, path: Path) -> None:
        self.alphabet = Alphabet.of_checkpoint(path)

    def row(self, request: int, written: list[int]) -> np.ndarray:
        return np.random.default_rng([request, *written]).normal(0, 2, VOCABULARY).astype(np.float32)

    def value(self, request: int, tau: float) -> float:
        alphabet = self.alphabet

        def logits(prefix: tuple[int, ...]) -> np.ndarray:
            written = [int(alphabet.symbols[p][symbol]) for p, symbol in enumerate(prefix)]
            return self.row(request, written)[alphabet.symbols[len(prefix)]]

        return run_walk(quantile_walk(alphabet.code, [tau]), logits)[0]


@pytest.fixture(scope="module")
def source(random_checkpoint: Path) -> Source:
    return Source(random_checkpoint)


@pytest.fixture
def config(random_checkpoint: Path) -> Any:
    return SimpleNamespace(model_config=SimpleNamespace(model=str(random_checkpoint)))


class Batch:
    """What vLLM's persistent batch does, against the V1 processor."""

    def __init__(self, processor: v1.QuantileProcessor, source: Source) -> None:
        self.processor, self.source = processor, source
        self.places: dict[int, int] = {}  # place -> request
        self.written: dict[int, list[int]] = {}  # the lists that the processor sees
        self.true: dict[int, list[int]] = {}
        self.untouched: dict[int, bool] = {}
        self.unknown = False  # asynchronous scheduling: tokens are placeholders when logits come

    def update(
        self,
        added: dict[int, tuple[int, SamplingParams]] | None = None,
        removed: tuple[int, ...] = (),
        moved: tuple[tuple[int, int, MoveDirectionality], ...] = (),
    ) -> None:
        entries = []
        for place in removed:
            self.places.pop(place, None)
        for place, (request, asked) in (added or {}).items():
            self.places[place] = request
            entries.append((place, asked, [request], self.written.setdefault(request, [])))
        for source, target, direction in moved:
            gone, there = self.places.pop(source, None), self.places.pop(target, None)
            if gone is not None:
                self.places[target] = gone
            if there is not None and direction == MoveDirectionality.SWAP:
                self.places[source] = there
        self.processor.update_state(BatchUpdate(len(self.places), list(removed), entries, list(moved)))

    def step(self, *, partial: tuple[int, ...] = ()) -> None:
        """One forward pass; the prompts of `partial` requests are not read to their end."""
        logits = torch.zeros(max(self.places) + 1, VOCABULARY)
        for place, request in self.places.items():
            row = self.source.row(request + 5000 * (request in partial), self.true.get(request, []))
            logits[place] = torch.from_numpy(row)
        before = logits.clone()
        taken = self.processor.apply(logits).argmax(dim=1).tolist()
        for place, request in self.places.items():
            if request not in partial:
                self.true.setdefault(request, []).append(taken[place])
                self.written[request].append(-1 if self.unknown else taken[place])
            self.untouched[place] = bool((logits[place] == before[place]).all())


@pytest.fixture
def batch(config: Any, source: Source) -> Batch:
    return Batch(v1.QuantileProcessor(config, torch.device("cpu"), False), source)


def test_requests_are_apart_through_moves_swaps_and_places_that_are_taken_over(
    batch: Batch, source: Source
) -> None:
    taus = {1: 0.1, 2: 0.5, 3: 0.9, 4: 0.3, 5: 0.77}
    batch.update(
        {
            place: (request, params(f"m{request}", taus[request]))
            for place, request in ((0, 1), (1, 2), (2, 3))
        }
    )
    batch.step()
    batch.update(moved=((0, 2, MoveDirectionality.SWAP),))
    batch.step()
    # One is removed, its place is filled by a move; a new one comes to a place that was never freed by a removal.
    batch.update(
        {3: (4, params("m4", taus[4]))}, removed=(1,), moved=((2, 1, MoveDirectionality.UNIDIRECTIONAL),)
    )
    batch.step()
    batch.step()
    batch.update({0: (5, params("m5", taus[5]))})  # 3 has ended; its place is taken over without a word
    for _ in range(4):
        batch.step()
    for request in (1, 3, 4, 5):
        assert ENDED.pop(f"m{request}") == pytest.approx(source.value(request, taus[request])), request
    assert "m2" not in ENDED  # removed before its end


def test_a_preempted_request_comes_back_elsewhere_and_goes_on(batch: Batch, source: Source) -> None:
    batch.update({0: (1, params("p1", 0.2)), 1: (2, params("p2", 0.6))})
    batch.step()
    batch.step()
    batch.update(removed=(0,), moved=((1, 0, MoveDirectionality.UNIDIRECTIONAL),))
    batch.step()
    batch.update({1: (1, params("p1", 0.2))})
    for _ in range(2):
        batch.step(partial=(1,))  # its prompt is read again, in chunks
    batch.step()
    batch.step()
    assert ENDED.pop("p1") == pytest.approx(source.value(1, 0.2))
    assert ENDED.pop("p2") == pytest.approx(source.value(2, 0.6))


def test_prompts_in_chunks_and_tokens_that_are_not_known_yet(batch: Batch, source: Source) -> None:
    batch.unknown = True
    batch.update({0: (1, params("c1", 0.4)), 1: (2, params("c2", 0.4)), 2: (3, PLAIN)})
    batch.step(partial=(1, 2))
    batch.step(partial=(1,))
    for _ in range(4):
        batch.step()
        assert batch.untouched[2]  # it asked nothing
    assert ENDED.pop("c1") == pytest.approx(source.value(1, 0.4))
    assert ENDED.pop("c2") == pytest.approx(source.value(2, 0.4))
    batch.step()  # nobody's walk goes on behind its end
    assert all(batch.untouched.values())


@pytest.mark.parametrize("processor", [v1.QuantileProcessor, v2.QuantileProcessor])
def test_parameters_are_checked_at_admission(processor: Any) -> None:
    processor.validate_params(params("a", 0.5))
    processor.validate_params(PLAIN)
    for bad in ({"jobcast_id": "a"}, {"jobcast_id": "a", "jobcast_tau": 2.0}):
        with pytest.raises(ValueError, match="must be"):
            processor.validate_params(SamplingParams(temperature=0.0, extra_args=bad))
    with pytest.raises(ValueError, match="temperature"):
        processor.validate_params(SamplingParams(temperature=1.0, extra_args=Ask("a", 0.5).to_extra_args()))


class Slots:
    """The V2 model runner's view: recycled slots, rows in another order at every step, tokens on the device."""

    def __init__(self, config: Any, source: Source) -> None:
        self.source = source
        self.tokens = torch.zeros(4, 64, dtype=torch.int32)
        self.lengths = np.zeros(4, dtype=np.int64)
        states = SimpleNamespace(
            all_token_ids=SimpleNamespace(gpu=self.tokens), prompt_len=SimpleNamespace(np=self.lengths)
        )
        self.processor = v2.QuantileProcessor(config, states)
        self.requests: dict[int, int] = {}
        self.written: dict[int, list[int]] = {}

    def add(self, slot: int, request: int, asked: SamplingParams, length: int = 10) -> bool:
        written = self.written.setdefault(request, [])
        self.tokens[slot, :length] = request
        self.lengths[slot] = length
        self.requests[slot] = request
        for place, token in enumerate(written):
            self.tokens[slot, length + place] = token
        return self.processor.add_request(slot, asked)

    def step(self, order: list[int], partial: tuple[int, ...] = ()) -> torch.Tensor:
        rows, positions = [], []
        for slot in order:
            request = self.requests[slot]
            rows.append(self.source.row(request + 5000 * (slot in partial), self.written[request]))
            done = len(self.written[request])
            positions.append(int(self.lengths[slot]) + done - 1 - 3 * (slot in partial and not done))
        context = SimpleNamespace(expanded_idx_mapping=torch.tensor(order), pos=torch.tensor(positions))
        self.processor.apply_staged_writes()
        logits = self.processor.apply(torch.from_numpy(np.stack(rows)), context)
        for slot, token in zip(order, logits.argmax(dim=1).tolist(), strict=True):
            if slot not in partial:
                written = self.written[self.requests[slot]]
                self.tokens[slot, int(self.lengths[slot]) + len(written)] = token
                written.append(token)
        return logits


def test_the_second_interface_keeps_slots_apart_too(config: Any, source: Source) -> None:
    slots = Slots(config, source)
    assert slots.add(0, 1, params("s1", 0.15))
    assert slots.add(1, 2, params("shared", 0.85), length=12)
    assert slots.add(2, 3, params("shared", 0.85), length=12)  # the same name, another prompt
    assert not slots.add(3, 4, PLAIN)
    slots.step([2, 0, 3, 1], partial=(1,))
    plain = slots.source.row(4, slots.written[4])
    logits = slots.step([0, 3, 1, 2])
    assert (logits[1].numpy() == plain).all()
    # 1 is preempted out of slot 0 and comes back to slot 3, whose request has ended.
    slots.step([2, 1])
    assert ENDED.pop("shared") == pytest.approx(source.value(3, 0.85))  # 3 has its three tokens, 2 has two
    slots.step([1])
    assert ENDED.pop("shared") == pytest.approx(source.value(2, 0.85))
    assert slots.add(3, 1, params("s1", 0.15))
    slots.step([3])
    assert ENDED.pop("s1") == pytest.approx(source.value(1, 0.15))
