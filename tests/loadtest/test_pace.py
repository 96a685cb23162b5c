"""Slow moments of the machine are told from the probe's own processor time, and from nothing that is measured."""

import time

import numpy as np
import pytest

from loadtest.pace import Pace, Slow, overslept, slow_profile, slow_spans, watched_pace


def test_slow_pieces_make_spans_that_hold_what_they_may_have_met() -> None:
    pieces = [(0.005 * place, 0.0001) for place in range(200)]
    for place in (40, 41, 42, 120):
        pieces[place] = (pieces[place][0], 0.0009)
    spans = slow_spans(pieces)
    assert [(one.since, one.to) for one in spans] == [
        pytest.approx((0.200, 0.2109)),
        pytest.approx((0.600, 0.6009)),
    ]
    assert [one.pace for one in spans] == pytest.approx([1 / 9, 1 / 9])
    pace = Pace(spans, seconds=1.0)
    assert pace.share == pytest.approx(0.0109 + 0.0009)
    moments = (0.0, 0.189, 0.191, 0.27, 0.272, 0.6, 0.7)
    assert [pace.was_slow(moment) for moment in moments] == [False, False, True, True, False, True, False]
    assert not Pace().was_slow(1.0)


def test_a_profile_says_how_slow_each_moment_was() -> None:
    taken = [0.1, 0.1, 0.1, 1.6, 1.5, 0.4, 0.1, 0.1, 0.1, 0.8, 0.1, 0.1]
    found = slow_profile([(0.004 * place, seconds / 1000) for place, seconds in enumerate(taken)])
    assert [(one.since, one.to, one.pace) for one in found] == [
        pytest.approx((0.012, 0.020, 1 / 16)),  # of about one pace: the first one's
        pytest.approx((0.020, 0.024, 1 / 4)),
        pytest.approx((0.036, 0.040, 1 / 8)),
    ]


def test_less_than_twice_as_slow_counts_where_it_lasts() -> None:
    taken = [0.1] * 60
    taken[10] = taken[20] = 0.17  # alone: an accident
    taken[40:50] = [0.15, 0.17, 0.15, 0.14, 0.15, 0.1, 0.15, 0.15, 0.16, 0.15]
    found = slow_profile([(0.004 * place, seconds / 1000) for place, seconds in enumerate(taken)])
    assert [(one.since, one.to, one.pace) for one in found] == [pytest.approx((0.160, 0.200, 1 / 1.5))]


def test_waking_late_is_told_from_work_and_from_single_accidents() -> None:
    begins = [place * (0.004 + 0.0003 + 0.0005) for place in range(100)]
    begins[50:] = [one + 0.5 for one in begins[50:]]  # somebody else had the core
    assert overslept([(one, 0.0003) for one in begins]) == pytest.approx(0.0005)
    assert overslept([(0.0, 0.0003)]) == 0.0


def test_what_came_before_and_what_was_left_undone_can_be_met_too() -> None:
    """Two slow times leave 0.1 and 0.08 s of work; a core that is busy for half of its time needs twice as long."""
    pace = Pace(profile=[Slow(1.0, 1.2, pace=0.5), Slow(1.3, 1.4, pace=0.2)], seconds=2.0)
    moments = np.arange(0.0, 2.0, 0.0025)
    until = 1.4 + 0.020 + (0.1 - 0.05 + 0.08) / 0.5
    expected = (moments < 1.0 - 0.010 - 0.040) | (moments >= until)
    assert (pace.undisturbed(list(moments), usual=0.040, busy=0.5) == expected).all()
    assert pace.lost == pytest.approx(0.18)
    # What a time leaves may be done before the next one comes.
    apart = Pace(profile=[Slow(1.0, 1.1, pace=0.9), Slow(1.5, 1.6, pace=0.9)])
    assert apart.undisturbed([0.9, 1.05, 1.3, 1.49, 1.7], 0.0, 0.5).tolist() == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert Pace().undisturbed([0.0, 1.0], 0.01, 0.9).all()


def test_a_probe_watches_until_the_block_ends() -> None:
    with watched_pace() as pace:
        time.sleep(3.0)  # the probe itself takes a moment to start
    assert 0.1 < pace.seconds < 10.0
    assert 0.0 <= pace.share <= 1.2
