"""What the loop can do beyond plain steps: accumulate, average, stop early, autocast, make batches ahead."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.decoder import layers_of, new_decoder
from model.training import train as loop
from model.training.averaging import WeightAverage
from model.training.batches import Bundles, batches
from model.training.compiling import can_compile
from model.training.feeding import ahead, share_of_batches
from model.training.loss import batch_loss
from model.training.settings import TrainSettings, learning_rate
from model.training.stopping import Stopping
from model.training.train import Progress, train
from tests.model.jobs_fixtures import encoder
from tests.model.test_training import settings_for, some_examples

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than these trainings; tests/model/test_training.py looks at one."""
    monkeypatch.setattr(loop, "plot_loss", lambda *_: None)


class Interrupted(Exception):
    pass


def interrupt_at(step: int) -> object:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise Interrupted

    return stop


def fresh() -> torch.nn.Module:
    torch.manual_seed(1)
    return new_decoder(settings_for(1).shape, 512)


def run(directory: Path, chosen: TrainSettings, *report: object) -> torch.nn.Module:
    examples = some_examples()
    return train(fresh(), encoder(), examples, examples[:20], chosen, directory, *report)


def test_accumulated_batches_make_one_step_of_all_their_tokens(tmp_path: Path) -> None:
    chosen = replace(settings_for(3), accumulate=2, weight_decay=0.0, gradient_norm=1e9)
    found = run(tmp_path, chosen)
    model = fresh()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    bundles = Bundles(some_examples(), encoder(), chosen.mixture, chosen.seed)
    stream = batches(bundles, encoder(), chosen.trees_per_batch)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = learning_rate(step, chosen)
        optimizer.zero_grad()
        pair = [next(stream), next(stream)]
        assert pair[0].weights.sum() != pair[1].weights.sum()
        losses = [batch_loss(model, batch, encoder(), CPU, "fp32") * batch.weights.sum() for batch in pair]
        (sum(losses) / sum(batch.weights.sum() for batch in pair)).backward()
        optimizer.step()
    for a, b in zip(found.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own code
def test_compiled_layers_learn_what_plain_ones_do(tmp_path: Path) -> None:
    plain, compiled = (
        run(tmp_path / str(chosen), replace(settings_for(2), compiled=chosen)) for chosen in (False, True)
    )
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
    assert all(layer._compiled_call_impl is None for layer in layers_of(compiled))


def test_the_processes_share_one_stream_of_batches() -> None:
    bundles = Bundles(some_examples(), encoder(), settings_for(1).mixture, seed=4)
    whole = batches(bundles, encoder(), trees_per_batch=2)
    expected = [next(whole).tokens for _ in range(9)][3:]
    shares = [share_of_batches(bundles, encoder(), 2, skip=3, rank=rank, size=3) for rank in range(3)]
    found = [next(share).tokens for _ in range(2) for share in shares]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_averages_are_the_moving_and_the_plain_mean() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    plain, moving = WeightAverage([parameter], None), WeightAverage([parameter], 0.5)
    for value in (1.0, 2.0, 6.0):
        parameter.data.fill_(value)
        plain.update()
        moving.update()
    with plain.applied():
        assert parameter.tolist() == pytest.approx([3.0, 3.0])
    with moving.applied():
        # Shares 9/11 and 9/12 of the second and third: the decay is lower at the start.
        assert parameter.tolist() == pytest.approx([(1 * 2 / 11 + 2 * 9 / 11) * 0.25 + 6 * 0.75] * 2)
    assert parameter.tolist() == [6.0, 6.0]
    again = WeightAverage([parameter], 0.5)
    again.load(moving.state())
    parameter.data.fill_(9.0)
    for average in (moving, again):
        average.update()
    with moving.applied():
        expected = parameter.tolist()
    again.keep()
    assert parameter.tolist() == expected


def test_a_tail_average_is_the_mean_of_the_weights_while_the_rate_falls(tmp_path: Path) -> None:
    chosen = replace(settings_for(10), average="tail", decay_share=0.3, validate_every=1, log_every=1)
    seen = []

    def note(progress: Progress) -> None:
        seen.append(torch.load(tmp_path / "state.pt")["model"])

    averaged = run(tmp_path, chosen, note)
    for name, tensor in averaged.state_dict().items():
        expected = torch.stack([weights[name] for weights in seen[-3:]]).mean(0)
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(averaged.state_dict()["model.norm.weight"], seen[-1]["model.norm.weight"])


def validations(directory: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation"]["text"] for line in lines if line["validation"]}


def test_a_run_out_of_patience_stops_and_keeps_its_best_weights(tmp_path: Path) -> None:
    # A rate that destroys what the first steps learned.
    chosen = replace(
        settings_for(60), peak_learning_rate=0.3, warm_up_steps=60, validate_every=2, log_every=2, patience=3
    )
    best = run(tmp_path / "best", chosen)
    found = validations(tmp_path / "best")
    best_step = min(found, key=lambda step: found[step])
    assert max(found) == best_step + 3 * 2 < 60
    last = torch.load(tmp_path / "best" / "state.pt")["model"]
    assert not torch.equal(last["model.norm.weight"], best.state_dict()["model.norm.weight"])
    until_best = run(tmp_path / "cut", replace(chosen, steps=best_step, decay_share=0.0, patience=None))
    for a, b in zip(best.parameters(), until_best.parameters(), strict=True):
        assert torch.equal(a, b)
    # Asked again, it does not go on.
    again = run(tmp_path / "best", chosen)
    assert validations(tmp_path / "best") == found
    assert all(torch.equal(a, b) for a, b in zip(best.parameters(), again.parameters(), strict=True))


def test_an_averaged_run_with_patience_resumes_as_if_never_stopped(tmp_path: Path) -> None:
    chosen = replace(settings_for(20), average="ema", average_decay=0.9, patience=2, accumulate=2)
    whole = run(tmp_path / "whole", chosen)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", chosen, interrupt_at(15))
    resumed = run(tmp_path / "parts", chosen)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert validations(tmp_path / "parts") == validations(tmp_path / "whole")


def test_patience_counts_validations_since_the_best_mean() -> None:
    stopping = Stopping(2)
    assert stopping.better(10, {"text": 2.0, "history": 1.0})
    assert not stopping.better(20, {"text": 1.0, "history": 2.5})
    assert stopping.better(30, {"text": 1.0, "history": 1.5})
    again = Stopping(2)
    again.load(stopping.state())
    for step in (40, 50):
        assert not again.over
        again.better(step, {"text": 3.0, "history": 3.0})
    assert again.over
    assert again.best_step == 30


def test_bf16_computes_the_loss_of_fp32_weights_roughly(tmp_path: Path) -> None:
    runs = {}
    for precision in ("fp32", "bf16"):
        chosen = replace(settings_for(4), precision=precision, log_every=1)
        model = run(tmp_path / precision, chosen)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        lines = (tmp_path / precision / "log.jsonl").read_text().splitlines()
        runs[precision] = [json.loads(line)["loss"] for line in lines]
    assert runs["bf16"] != runs["fp32"]
    assert runs["bf16"] == pytest.approx(runs["fp32"], rel=0.02)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path, settings_for(2))
    chosen = replace(settings_for(4), shape=replace(settings_for(1).shape, layers=2))
    other = new_decoder(chosen.shape, 512)
    with pytest.raises(KeyError, match="another model"):
        train(other, encoder(), some_examples(), [], chosen, tmp_path)


def test_a_device_of_its_own_gets_its_batches_from_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop with batches made ahead computes what the plain one does."""
    plain = run(tmp_path / "plain", settings_for(12))
    share = share_of_batches
    monkeypatch.setattr(loop, "share_of_batches", lambda *given, **named: ahead(share(*given, **named)))
    threaded = run(tmp_path / "ahead", settings_for(12))
    for a, b in zip(plain.parameters(), threaded.parameters(), strict=True):
        assert torch.equal(a, b)


def test_items_made_ahead_keep_their_order_and_their_error() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise ValueError("the twentieth")

    taken = []
    with pytest.raises(ValueError, match="twentieth"):
        for item in ahead(items(), depth=3):
            taken.append(item)  # noqa: PERF402
    assert taken == list(range(20))
    assert list(ahead(iter("abc"))) == ["a", "b", "c"]
