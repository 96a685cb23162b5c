"""Inputs made to cost time or memory: each reader refuses or reads them quickly, whatever a body's size allows."""

import json
import time
from collections.abc import Callable, Mapping

import pytest

from model import redact
from model.errors import ConfigTooDeep, ConfigTooLarge, DeadlineExceeded, InvalidConfig, JobcastError
from model.jobs import read
from model.jobs.job import Job
from model.jobs.limits import MAX_NODES
from model.jobs.time_limit import check_time, time_limit
from model.jobs.yaml_source import load_yaml
from model.text import canonical_text, full_text

SIZE = 2_000_000
#: What the service allows, and what a slow machine may add to it.
SECONDS, SLACK = 2.0, 2.0
GITHUB = "on: push\njobs:\n  a:\n    runs-on: u\n    steps:\n"


def filled(piece: str, size: int = SIZE) -> str:
    return (piece * (size // len(piece) + 1))[:size]


def nested_actions() -> Mapping[str, object]:
    steps = "    - uses: ./a{0}\n" * 6
    return {"local_actions": {f"a{i}": "runs:\n  steps:\n" + steps.format(i + 1) for i in range(12)}}


HOSTILE: dict[str, tuple[str, str, Mapping[str, object]]] = {
    "a million nodes": ("nextflow", "a: [" + "x," * 1_000_000 + "]", {}),
    "anchors": ("nextflow", "a: [" + ",".join(f"&a{i} x" for i in range(99_000)) + "]", {}),
    "one scalar": ("nextflow", "a: " + "x" * SIZE, {}),
    "one quoted scalar of escapes": ("nextflow", 'a: "' + filled("\\x41") + '"', {}),
    "flow of 63 levels": ("nextflow", "[" * 63 + "x," * 99_000 + "]" * 63, {}),
    "tag directives": ("nextflow", "".join(f"%TAG !a{i}! t:{i}:\n" for i in range(60_000)) + "--- a: 1", {}),
    "later tag directives": (
        "nextflow",
        "a: 1\n...\n" + "".join(f"%TAG !a{i}! t:{i}:\n" for i in range(60_000)) + "--- a: 1",
        {},
    ),
    "documents": ("nextflow", filled("---\n"), {}),
    "numbers": ("nextflow", '{"a":[' + "1," * 99_000 + "1]}", {}),
    "integers of 4,000 digits": ("nextflow", '{"a":[' + ",".join(["1" * 4000] * 500) + "]}", {}),
    "keys": ("nextflow", json.dumps({f"k{i}": i for i in range(99_000)}), {}),
    "a long path above many values": (
        "nextflow",
        '{"' + "k" * 1000 + '":' + json.dumps({f"k{i}": i for i in range(90_000)}) + "}",
        {},
    ),
    "secret-sounding names": ("text", filled("password"), {}),
    "versions without end": ("text", filled("1."), {}),
    "words": ("text", filled("w "), {}),
    "lines": ("text", filled("x\n"), {}),
    "steps": ("github-actions", GITHUB + "      - run: x\n" * 33_000, {}),
    "jobs": (
        "github-actions",
        "jobs:\n" + "".join(f"  j{i}: {{runs-on: u, steps: [{{run: x}}]}}\n" for i in range(10_000)),
        {},
    ),
    "a complete graph of needs": (
        "github-actions",
        "jobs:\n"
        + "".join(
            f"  j{i}: {{runs-on: u, needs: [{','.join(f'j{k}' for k in range(i))}], steps: [{{run: x}}]}}\n"
            for i in range(400)
        ),
        {},
    ),
    "actions inside of actions": ("github-actions", GITHUB + "      - uses: ./a0\n", nested_actions()),
    "expressions that never end": ("github-actions", GITHUB + "      - run: " + filled("${{ matrix."), {}),
    "appends": ("eda.openroad", filled("export A += x\n"), {}),
    "a chain of else": ("eda.openroad", "ifdef X\n" + "else\n" * 300_000 + "endif", {}),
    "assignments under long conditions": (
        "eda.openroad",
        "".join(f"ifdef {'X' * 1000}{i}\n" for i in range(63))
        + "".join(f"A{i}=1\n" for i in range(100_000))
        + "endif\n" * 63,
        {},
    ),
    "open braces": ("eda.openroad", "platform: x\nconstraint.sdc: |\n  " + "{" * SIZE, {}),
    "lappend": ("eda.openlane", filled("lappend ::env(A) x\n"), {}),
    "a word of an #SBATCH line": ("slurm", "#SBATCH -" + "x" * SIZE, {}),
    "a quote of an #SBATCH line": ("slurm", "#SBATCH '" + "x" * SIZE + "'", {}),
    "digits of a time": ("slurm", "#SBATCH -t " + "9" * 4000, {}),
    "empty lines of a recipe": ("gitlab-spack", json.dumps({"package": "x", "recipe": "\n" * 900_000}), {}),
    "continued lines of a recipe": ("bitbake", json.dumps({"recipe_text": "\\\n" * 900_000}), {}),
}


def tokens(text: str) -> int:
    return len(text) // 4


@pytest.mark.parametrize("name", HOSTILE)
def test_the_worst_inputs_end_in_time(name: str) -> None:
    kind, text, context = HOSTILE[name]
    started = time.perf_counter()
    try:
        with time_limit(SECONDS):
            reading = read(kind, text, context)
            for job in (*([reading.workflow] if reading.workflow else []), *reading.jobs):
                canonical_text(job, 512, tokens)
    except JobcastError as error:
        assert error.status == 422
    assert time.perf_counter() - started < SECONDS + SLACK


@pytest.mark.parametrize(
    ("kind", "text", "error"),
    [
        ("nextflow", "a: &a " + "x" * 1_000_000 + "\nb: [" + "*a," * 90_000 + "]", ConfigTooLarge),
        ("nextflow", "? " + "x" * 2000 + "\n: 1", ConfigTooLarge),
        ("nextflow", '{"' + "x" * 2000 + '": 1}', ConfigTooLarge),
        ("nextflow", "a: &a [*a]", InvalidConfig),
        ("nextflow", "a: &a 1\nb: &a 2", InvalidConfig),
        ("nextflow", '{"a": 1, "a": 2}', InvalidConfig),
        ("nextflow", '{"a":' + "[" * 1_000_000, ConfigTooDeep),
        ("eda.openlane", '{"a":[' + "1," * MAX_NODES + "1]}", ConfigTooLarge),
        ("nextflow", "[" * 1_000_000, ConfigTooDeep),
        ("nextflow", "a: \ud800", InvalidConfig),
        ("nextflow", "a: \0", InvalidConfig),
        ("nextflow", '{"task": "\\ud800"}', InvalidConfig),
        ("eda.openlane", '{"DESIGN_NAME": "\\udfff"}', InvalidConfig),
        ("eda.openroad", "ifdef X\nelse\nelse\nendif", InvalidConfig),
        ("slurm", "#SBATCH " + "--a " * 5000, InvalidConfig),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: str, text: str, error: type[JobcastError]) -> None:
    with pytest.raises(error):
        read(kind, text, {})


@pytest.mark.parametrize("value", ["9" * 400, "9" * 1000, "²", "-1"])
@pytest.mark.parametrize(
    "option", ["--mem={0}", "--mem={0}G", "-c {0}", "-n {0}", "-t {0}", "-t {0}-{0}:{0}"]
)
def test_a_resource_request_beyond_any_machine_is_none(option: str, value: str) -> None:
    job = read("slurm", f"#SBATCH {option.format(value)}\nmake", {}).jobs[0]
    assert job.requested == {}


@pytest.mark.parametrize("text", ["1" * 4000, "1" * 400])
def test_a_requested_integer_beyond_every_float_is_none(text: str) -> None:
    assert read("nextflow", f'{{"threads": {text}}}', {}).jobs[0].requested == {}


def test_tags_and_merge_keys_mean_nothing() -> None:
    assert load_yaml("a: &x {b: !!python/object/apply:os.system ['id']}\nc: {<<: *x}") == {
        "a": {"b": ["id"]},
        "c": {"<<": {"b": ["id"]}},
    }


def test_a_limit_that_has_passed_ends_what_it_is_around() -> None:
    with pytest.raises(ConfigTooLarge), time_limit(-1.0):
        check_time()
    with pytest.raises(DeadlineExceeded), time_limit(10.0, time.perf_counter() - 1):
        check_time()
    check_time()


@pytest.mark.parametrize(
    "make",
    [
        lambda: load_yaml("a: 1"),
        lambda: read("github-actions", GITHUB + "      - run: x", {}),
        lambda: read("eda.openroad", "A = 1", {}),
        lambda: read("eda.openlane", "set ::env(A) x", {}),
        lambda: read("eda.openlane", '{"a": 1}', {}),
        lambda: read("eda.vtr", "a = 1", {}),
        lambda: read("eda.vtr", "circuit: x", {}),
        lambda: read("slurm", "make", {}),
        lambda: read("gitlab-spack", '{"package": "x", "recipe": "a\\nb"}', {}),
        lambda: full_text(Job("text", "job", "text", {"text": "make"})),
    ],
)
def test_every_reader_and_the_serializer_ask_for_the_time(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigTooLarge, match="too long"), time_limit(-1.0):
        make()


@pytest.mark.parametrize(
    "piece", ["password", "token_", "1.", "--token=", "-----BEGIN ", "aA0/", "eyJaaaaaaaaa."]
)
def test_masking_takes_no_square_of_the_length(piece: str) -> None:
    def seconds(size: int) -> float:
        text = "1 " + filled(piece, size)
        started = time.perf_counter()
        redact.mask(text)
        return time.perf_counter() - started

    seconds(1000)
    assert seconds(64_000) < 1.0


def test_a_very_long_string_keeps_its_ends_and_says_what_it_lacks() -> None:
    text = "begin " + "x" * 500_000 + " end"
    fitted = canonical_text(Job("text", "job", "text", {"text": text}), 512, tokens)
    assert "begin" in fitted.text and fitted.text.endswith(" end")
    shown = len(fitted.text)
    assert len(text) - shown <= fitted.left_out_characters <= len(text)
    whole = full_text(Job("text", "job", "text", {"text": text}))
    assert len(whole) < 140_000 and whole.endswith(" end")
    assert len(text) - len(whole) - 20 < int(whole.split("…")[1]) < len(text) - 131_000
