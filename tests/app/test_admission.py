"""Who is refused at the door: by the pace of the last seconds, in fair turns, and never where nothing is going on."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.admission import Admission
from app.metrics import Metrics
from app.timings import begin
from model.errors import InvalidConfig, Overloaded


class Clock:
    """`time.perf_counter` in the tests' hands."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    yield made


def paced(clock: Clock, tokens_per_second: float, *, metrics: Metrics | None = None) -> Admission:
    """An admission that has seen this pace for a while."""
    admission = Admission(metrics or Metrics(), max_tokens=100_000)
    for _ in range(50):
        with admission.ticket("past", 100, clock.now + 10):
            clock.now += 100 / tokens_per_second
    return admission


def test_what_is_ahead_divided_by_the_pace_is_the_wait(clock: Clock) -> None:
    admission = paced(clock, 1000)
    with admission.ticket("a", 500, clock.now + 10):
        assert admission.expected_wait("a", 500) == pytest.approx(0.5, rel=0.01)
        with admission.ticket("a", 500, clock.now + 1.4):
            with pytest.raises(Overloaded) as refused, admission.ticket("a", 500, clock.now + 1.9):
                pass
            assert refused.value.retry_after_seconds == pytest.approx(1.0, rel=0.01)
            with admission.ticket("a", 500, clock.now + 2.1):
                pass


def test_an_idle_service_gives_everybody_a_chance(clock: Clock) -> None:
    admission = paced(clock, 10)
    with admission.ticket("a", 1_000_000, clock.now + 0.001):
        pass


def test_the_pace_follows_what_the_machine_does_now(clock: Clock) -> None:
    admission = paced(clock, 1000)
    for _ in range(20):
        with admission.ticket("a", 1000, clock.now + 10):
            clock.now += 4.0
    with admission.ticket("a", 1000, clock.now + 10):
        assert admission.expected_wait("a", 1000) == pytest.approx(4.0, rel=0.1)


def fail(clock: Clock, admission: Admission, seconds: float, tokens: float = 1000) -> None:
    with pytest.raises(KeyError), admission.ticket("a", tokens, clock.now + 10):
        clock.now += seconds
        raise KeyError


def test_what_failed_took_its_time_and_did_nothing(clock: Clock) -> None:
    admission = paced(clock, 1000)
    with admission.ticket("always", 1, clock.now + 100):
        for _ in range(20):
            fail(clock, admission, 1.0)
            with admission.ticket("a", 1000, clock.now + 10):
                clock.now += 1.0
        with admission.ticket("b", 1000, clock.now + 10):
            assert admission.expected_wait("b", 1000) == pytest.approx(2.0, rel=0.3)


def test_what_was_given_up_with_nothing_beside_it_does_not_speak_for_what_follows(clock: Clock) -> None:
    admission = paced(clock, 1000)
    fail(clock, admission, 10.0, 50_000)
    with ExitStack() as stack:
        for place in range(16):
            assert admission.expected_wait("a", 100) == pytest.approx(0.1 * place, rel=0.01)
            stack.enter_context(admission.ticket("a", 100, clock.now + 10))


def test_a_pace_at_which_something_was_given_up_is_forgotten_while_there_is_nothing_to_do(
    clock: Clock,
) -> None:
    admission = paced(clock, 1000)
    with admission.ticket("always", 1, clock.now + 100):
        fail(clock, admission, 30.0)
    with admission.ticket("a", 1000, clock.now + 10):
        troubled = admission.expected_wait("a", 1000)
        assert 2.0 < troubled < 6.0  # thirty seconds count as three
        clock.now += 1.0
    clock.now += 12.0
    with admission.ticket("a", 1000, clock.now + 10):
        assert admission.expected_wait("a", 1000) == pytest.approx(1.0, rel=0.2)


def test_nobody_is_told_to_wait_longer_than_any_deadline(clock: Clock) -> None:
    admission = paced(clock, 1)
    second = admission.ticket("a", 1000, clock.now + 10)
    with admission.ticket("a", 1000, clock.now + 10), pytest.raises(Overloaded) as refused, second:
        pass
    assert refused.value.retry_after_seconds == 60.0


def test_idle_time_is_not_slowness(clock: Clock) -> None:
    admission = paced(clock, 1000)
    clock.now += 1000
    with admission.ticket("a", 1000, clock.now + 10):
        assert admission.expected_wait("a", 1000) == pytest.approx(1.0, rel=0.01)


def test_a_small_request_waits_for_its_turn_only(clock: Clock) -> None:
    admission = paced(clock, 1000)
    with ExitStack() as stack:
        begin()
        stack.enter_context(admission.ticket("noisy", 20_000, clock.now + 60))  # a batch
        for _ in range(10):
            begin()
            stack.enter_context(admission.ticket("noisy", 500, clock.now + 60))
        begin()
        # Another caller: as much as itself, of the noisy one's. The same caller: that much of each of its requests.
        assert admission.expected_wait("quiet", 500) == pytest.approx(0.5, rel=0.01)
        assert admission.expected_wait("noisy", 500) == pytest.approx(5.5, rel=0.01)


def test_more_tokens_than_may_wait_are_refused_and_counted(clock: Clock) -> None:
    metrics = Metrics()
    admission = Admission(metrics, max_tokens=1000)
    alone = admission.ticket("a", 5000, clock.now + 1)
    with alone, pytest.raises(Overloaded), admission.ticket("b", 10, clock.now + 1):
        pass
    shed = metrics.registry.get_sample_value("jobcast_shed_total", {"reason": "queue_full"})
    assert (shed, admission.waiting()) == (1, 0)


def test_what_was_guessed_is_corrected_once_it_is_known(clock: Clock) -> None:
    admission = paced(clock, 1000)
    with admission.ticket("a", 2000, clock.now + 10, guessed=True) as ticket:
        admission.read(ticket, 300)
        assert admission.waiting() == 300
    for _ in range(100):  # guesses are learnt from
        with admission.ticket("a", 100, clock.now + 10, guessed=True) as ticket:
            admission.read(ticket, 250)
    with admission.ticket("a", 100, clock.now + 10, guessed=True):
        assert admission.waiting() == pytest.approx(250, rel=0.01)


def test_a_batch_waits_for_all_of_itself(clock: Clock) -> None:
    admission = paced(clock, 1000)
    begin()
    with ExitStack() as stack:
        for place in range(4):
            assert admission.expected_wait("a", 500) == pytest.approx(0.5 * place, rel=0.01)
            stack.enter_context(admission.ticket("a", 500, clock.now + 60))


def test_what_was_refused_as_wrong_was_dealt_with(clock: Clock) -> None:
    admission = paced(clock, 1000)
    for _ in range(20):
        with pytest.raises(InvalidConfig), admission.ticket("a", 1000, clock.now + 10):
            clock.now += 1.0
            raise InvalidConfig("wrong")
    with admission.ticket("a", 1000, clock.now + 10):
        assert admission.expected_wait("a", 1000) == pytest.approx(1.0, rel=0.05)
