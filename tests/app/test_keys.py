"""Lines of keys: what is read, what is refused, and that no error repeats one."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.auth.keys import ApiKey, check_strength, digest_of, looks_default, new_key, parse_keys
from app.auth.rates import Rate
from app.cli import cli

HASH = hashlib.sha256(b"a key that only this test has").hexdigest()


def test_a_file_of_keys_is_read() -> None:
    other = hashlib.sha256(b"another").hexdigest()
    text = f"""
    # who asks
    ci.main:sha256:{HASH}
    grafana:sha256:{other.upper()}:rate=5/10seconds:expires=2027-01-31T12:30Z
    """
    first, second = parse_keys(text)
    assert first == ApiKey("ci.main", bytes.fromhex(HASH))
    assert second.rate == Rate(5, 10)
    assert second.expires == datetime(2027, 1, 31, 12, 30, tzinfo=UTC).timestamp()
    assert parse_keys(f"{first.line()}, {second.line()}", separators=",\n")[1].name == "grafana"


def test_a_bare_date_ends_a_key_at_its_first_moment() -> None:
    (key,) = parse_keys(f"ci:sha256:{HASH}:expires=2027-01-31")
    assert key.expires == datetime(2027, 1, 31, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "line",
    [
        "jobcast_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE",
        f"ci:{HASH}",
        f"ci:sha256:{HASH[:-1]}",
        f"ci:sha256:{HASH}0",
        f"ci:md5:{HASH}",
        f"CI:sha256:{HASH}",
        f"jobcast_abc:sha256:{HASH}",
        f"{'n' * 65}:sha256:{HASH}",
        f"ci:sha256:{HASH}:rate=many",
        f"ci:sha256:{HASH}:rate=0/minute",
        f"ci:sha256:{HASH}:rate=1/minute:rate=2/minute",
        f"ci:sha256:{HASH}:expires=soon",
        f"ci:sha256:{HASH}:expires=2027-13-01",
        f"ci:sha256:{HASH}:until=2027-01-01",
        f"ci:sha256:{HASH}:junk:rate=1/minute",
        f"ci:sha256:{HASH} # note",
        f"ci:sha256:{'0' * 64}",
        f"ci:sha256:{hashlib.sha256(b'changeme').hexdigest()}",
        f"ci:sha256:{hashlib.sha256(b'Password1').hexdigest()}",
    ],
)
def test_a_line_that_is_wrong_is_named_by_its_number_alone(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: ") as refused:
        parse_keys(f"# keys\n{line}")
    for part in line.split(":"):
        assert len(part) < 12 or part not in str(refused.value)


@pytest.mark.parametrize("second", [f"ci:sha256:{'ab' * 8 + HASH[16:]}", f"other:sha256:{HASH}"])
def test_a_name_and_a_hash_stand_in_one_line_only(second: str) -> None:
    with pytest.raises(ValueError, match=r"line 2: .* earlier line"):
        parse_keys(f"ci:sha256:{HASH}\n{second}")


@given(st.text(max_size=200))
def test_no_text_is_read_with_anything_but_a_value_error(text: str) -> None:
    try:
        keys = parse_keys(text)
    except ValueError as error:
        assert str(error).startswith("line ")
    else:
        assert keys == ()


def test_new_keys_differ_and_are_strong() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        check_strength(key)
        assert len(key) == len("jobcast_") + 43


@pytest.mark.parametrize(
    "key", ["short", "changeme" * 1, "a" * 40, "x" * 31, "ä" * 40, f"{'ab' * 20} cdefgh"]
)
def test_keys_that_could_be_guessed_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="jobcast key new"):
        check_strength(key)


def test_default_secrets_are_recognised_with_their_decorations() -> None:
    assert all(map(looks_default, ("changeme", "Change-Me", "secret123", "PASSWORD!", "", "aaaaaaaa")))
    assert not looks_default(new_key())


def test_the_command_makes_a_key_whose_line_stands_for_it() -> None:
    made = CliRunner().invoke(cli, ["key", "new", "ci"])
    assert made.exit_code == 0
    (_, key), (_, line) = (printed.split() for printed in made.output.splitlines())
    assert parse_keys(line) == (ApiKey("ci", digest_of(key)),)
    hashed = CliRunner().invoke(cli, ["key", "hash", "ci"], input=f"{key}\n")
    assert hashed.output.strip() == line
