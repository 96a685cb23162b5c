"""Windows end where the input says, whoever asks and from wherever he starts."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from app.batch.source import LineSource
from app.batch.windows import place_of, windows

REQUESTS = st.lists(st.one_of(st.integers(0, 12), st.sampled_from(["", "{", "[1]"])), max_size=80)


@given(REQUESTS, st.integers(1, 6))
def test_windows_hold_every_record_once_and_new_requests_once(drawn: list[int | str], size: int) -> None:
    with TemporaryDirectory() as directory:
        source = _source(directory, drawn)
        found, seen = [], set[bytes]()
        for window in windows(source, size, seen.__contains__):
            assert len(window.new) <= size
            assert not seen & window.new.keys()
            assert window.lines == source.fetch(window.new.values())
            seen.update(window.new)
            found.append(window)
        assert sum(len(window.places) for window in found) == len(drawn)
        assert {place.key for window in found for place in window.places} == seen


@given(REQUESTS, st.integers(1, 6), st.data())
def test_windows_from_any_of_them_on_are_the_same(
    drawn: list[int | str], size: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as directory:
        source = _source(directory, drawn)
        seen = set[bytes]()
        whole = []
        for window in windows(source, size, seen.__contains__):
            seen.update(window.new)
            whole.append(window)
        skipped = data.draw(st.integers(0, len(whole)))
        before = set[bytes]().union(*(window.new for window in whole[:skipped]))
        rest = []
        for window in windows(
            source,
            size,
            before.__contains__,
            number=skipped,
            first=sum(len(window.places) for window in whole[:skipped]),
            position=whole[skipped - 1].end if skipped else 0,
        ):
            before.update(window.new)
            rest.append(window)
        assert rest == whole[skipped:]


def test_a_window_of_repeats_alone_ends_too() -> None:
    with TemporaryDirectory() as directory:
        source = _source(directory, [1] * 100)
        assert [len(window.places) for window in windows(source, 2, set[bytes]().__contains__)] == [
            32
        ] * 3 + [4]


def test_equal_requests_have_equal_keys_whatever_their_ids_and_spaces() -> None:
    one = place_of(b'{"id": "a", "kind": "text", "config": "x"}')
    other = place_of(b'{"kind":"text","config":"x","id":2}')
    assert one.key == other.key
    assert (one.id, other.id) == (b'"a"', b"2")
    assert place_of(b'{"id": 1.5, "kind": "text", "config": "x"}').key != one.key
    assert place_of(b'{"kind": "text", "config": "y"}').key != one.key
    assert place_of(b'{"kind": "text", "config": "x", "config": "x"}').key != one.key


def _source(directory: str, drawn: list[int | str]) -> LineSource:
    path = Path(directory) / "in.jsonl"
    lines = [
        one if isinstance(one, str) else json.dumps({"id": place, "config": one})
        for place, one in enumerate(drawn)
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    return LineSource(path, 1000)
