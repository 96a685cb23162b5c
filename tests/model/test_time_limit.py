"""What counts as long: the reader's own work, and the deadline of whoever asked."""

import time

import pytest

from model.errors import ConfigTooLarge, DeadlineExceeded
from model.jobs.time_limit import check_time, time_limit


def work(seconds: float) -> None:
    """Use that much processor time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_work_beyond_the_limit_is_the_fault_of_the_config() -> None:
    with time_limit(0.02):
        work(0.01)
        check_time()
        work(0.015)
        with pytest.raises(ConfigTooLarge):
            check_time()
    check_time()  # outside there is no limit


def test_standing_still_is_not() -> None:
    with time_limit(0.02):
        time.sleep(0.05)
        check_time()
        work(0.025)
        with pytest.raises(ConfigTooLarge):
            check_time()


def test_a_deadline_is_a_moment() -> None:
    with time_limit(10.0, deadline=time.perf_counter() + 0.02):
        check_time()
        time.sleep(0.03)
        with pytest.raises(DeadlineExceeded):
            check_time()
