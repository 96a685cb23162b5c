"""Slow moments of the machine are told from the probe's own processor time, and from nothing that is measured."""

import time

import numpy as np
import pytest

from loadtest.pace import Pace, Span, overslept, pace_profile, slow_spans, watched_pace


def test_slow_pieces_make_spans_that_hold_what_they_may_have_met() -> None:
    pieces = [(0.005 * place, 0.0001) for place in range(200)]
    for place in (40, 41, 42, 120):
        pieces[place] = (pieces[place][0], 0.0009)
    spans = slow_spans(pieces)
    assert spans == [pytest.approx((0.200, 0.2109)), pytest.approx((0.600, 0.6009))]
    pace = Pace(spans, seconds=1.0)
    assert pace.share == pytest.approx(0.0109 + 0.0009)
    moments = (0.0, 0.189, 0.191, 0.27, 0.272, 0.6, 0.7)
    assert [pace.was_slow(moment) for moment in moments] == [False, False, True, True, False, True, False]
    assert not Pace().was_slow(1.0)


def test_a_profile_says_how_fast_each_moment_was() -> None:
    """Pieces a tenth of a second apart: single slow ones count by themselves, others by their neighbours."""
    taken = [1.0] * 10 + [1.0, 8.0, 1.0, 1.4, 1.0] + [1.0] * 10 + [1.21] * 10 + [1.0] * 10 + [0.8] * 10
    found = pace_profile([(0.1 * place, seconds / 1000) for place, seconds in enumerate(taken)])
    assert [one.since for one in found] == pytest.approx([0.0, 1.1, 1.2, 2.5, 3.5, 4.5])
    assert [one.to for one in found] == pytest.approx([1.1, 1.2, 2.5, 3.5, 4.5, 5.4])
    # To a twentieth.
    assert [one.pace for one in found] == pytest.approx([1, 1 / 8, 1, 1 / 1.21, 1, 1.25], rel=0.025)


def test_waking_late_is_told_from_work_and_from_single_accidents() -> None:
    begins = [place * (0.004 + 0.0003 + 0.0005) for place in range(100)]
    begins[50:] = [one + 0.5 for one in begins[50:]]  # somebody else had the core
    assert overslept([(one, 0.0003) for one in begins]) == pytest.approx(0.0005)
    assert overslept([(0.0, 0.0003)]) == 0.0


def test_what_came_before_and_what_was_left_undone_can_be_met_too() -> None:
    """Two slow times leave 0.1 and 0.08 s of work. Of 3.6 s they cost a twentieth; busy for half, but for that, a core
    has half of its pace to spare."""
    faster, hardly_slower = Span(0.0, 1.0, pace=1.2), Span(1.2, 1.3, pace=0.95)
    slow = Span(1.0, 1.2, pace=0.5), Span(1.3, 1.4, pace=0.2)
    pace = Pace(profile=[faster, slow[0], hardly_slower, slow[1]], seconds=3.6)
    moments = np.arange(0.0, 3.6, 0.0025)
    until = 1.4 + 0.020 + (0.1 - 0.05 + 0.08) / 0.5
    expected = (moments < 1.0 - 0.010 - 0.040) | (moments >= until)
    assert (pace.undisturbed(list(moments), usual=0.040, busy=0.5 / 0.95) == expected).all()
    assert pace.lost == pytest.approx(0.18)
    # What a time leaves may be done before the next one comes.
    apart = Pace(profile=[Span(1.0, 1.1, pace=0.9), Span(1.5, 1.6, pace=0.9)], seconds=2.0)
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
    assert 0.0 < pace.used < 0.5
