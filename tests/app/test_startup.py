"""What stops a start: one line per fault on stderr, exit status 2, no value and no stack trace."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.auth.keys import digest_of, new_key
from app.cli import main
from app.settings import DEFAULT_CHECKPOINT, DEFAULT_PORT, Settings
from app.sockets import bind, listen
from app.startup import ConfigurationError, check_exposure, is_loopback, load_settings
from tests.app.fakes import CANARY

KEY_LINE = f"ci:sha256:{digest_of(new_key()).hex()}"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("JOBCAST_")]:
        monkeypatch.delenv(name)


def serve(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: Mapping[str, str],
    *options: str,
) -> list[str]:
    """Start with these settings, which must fail: the lines on stderr."""
    for name, value in {"ENGINE": "fake", "PORT": "0", **settings}.items():
        monkeypatch.setenv(f"JOBCAST_{name}", value)
    monkeypatch.setattr(sys, "argv", ["jobcast", "serve", *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    written = capsys.readouterr()
    assert CANARY not in written.out + written.err
    lines = written.err.splitlines()
    assert lines
    assert all(line.startswith("jobcast: ") for line in lines)
    return [line.removeprefix("jobcast: ") for line in lines]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"PORT": "70000"}, "JOBCAST_PORT: must be at most 65535"),
        ({"PORT": CANARY}, "JOBCAST_PORT: must be a whole number"),
        ({"MAX_BODY_BYTES": "0"}, "JOBCAST_MAX_BODY_BYTES: must be at least 1024"),
        ({"CACHE_TTL_SECONDS": "0"}, "JOBCAST_CACHE_TTL_SECONDS: must be greater than 0"),
        ({"ENGINE": CANARY}, "JOBCAST_ENGINE: must be one of 'torch', 'vllm', 'vllm-server' or 'fake'"),
        ({"ALLOW_ANONYMOUS": CANARY}, "JOBCAST_ALLOW_ANONYMOUS: must be true or false"),
        ({"VLLM_URLS": CANARY}, "JOBCAST_VLLM_URLS: must be a JSON list"),
        ({"ENGINE": "vllm-server"}, "JOBCAST_ENGINE=vllm-server needs JOBCAST_VLLM_URLS"),
        ({"VLLM_API_KEY": "changeme"}, "JOBCAST_VLLM_API_KEY: is a default secret, as examples have them"),
        (
            {"TRUSTED_PROXIES": "10.0.0.0/8,*"},
            "JOBCAST_TRUSTED_PROXIES: must be addresses or networks such as",
        ),
        ({"RATE_LIMIT": CANARY}, "JOBCAST_RATE_LIMIT: must be a rate such as 600/minute or 5/10seconds"),
        ({"REDIS_ULR": CANARY}, "JOBCAST_REDIS_ULR: no such setting; did you mean JOBCAST_REDIS_URL?"),
        ({"ZZZZZZZZ": CANARY}, "JOBCAST_ZZZZZZZZ: no such setting"),
        ({"API_KEYS": f"\n{CANARY}"}, "JOBCAST_API_KEYS: line 2: must be name:sha256:"),
        ({"REDIS_URL": f"http://:{CANARY}@cache"}, "JOBCAST_REDIS_URL: the URL of Redis must begin with"),
        ({"CACHE_SECRET": "secret"}, "JOBCAST_CACHE_SECRET: is a default secret"),
        ({"API_KEYS": " , "}, "JOBCAST_API_KEYS: holds no key"),
        (
            {"API_KEYS_FILE": f"/nowhere/{CANARY}"},
            "JOBCAST_API_KEYS_FILE: cannot be read (No such file or directory)",
        ),
        ({"API_KEYS_FILE": "/"}, "JOBCAST_API_KEYS_FILE: cannot be read (Is a directory)"),
        ({"CHECKPOINT": f"/nowhere/{CANARY}"}, "JOBCAST_CHECKPOINT: no readable jobcast.json in the"),
        ({"HOST": "0.0.0.0"}, "JOBCAST_HOST: other machines can reach this address and no key is configured"),
        ({"HOST": ""}, "JOBCAST_HOST: other machines can reach"),
        ({"HOST": "192.0.2.1", "ALLOW_ANONYMOUS": "true"}, "JOBCAST_HOST: this machine has no such address"),
        ({"HOST": f"{CANARY}.invalid", "ALLOW_ANONYMOUS": "true"}, "JOBCAST_HOST: no such address"),
        ({"API_KEYS": KEY_LINE, "ALLOW_ANONYMOUS": "true"}, "JOBCAST_ALLOW_ANONYMOUS: contradicts"),
        (
            {"METRICS_HOST": "192.0.2.1", "METRICS_PORT": "0"},
            "JOBCAST_METRICS_HOST: this machine has no such",
        ),
    ],
)
def test_a_fault_is_one_line_that_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: dict[str, str], line: str
) -> None:
    (found,) = serve(monkeypatch, capsys, settings)
    assert found.startswith(line)


@pytest.mark.parametrize(
    "origins", ["ci.example.org", "https://ci.example.org/", "https://*.example.org", "null"]
)
def test_what_is_no_origin_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], origins: str
) -> None:
    (found,) = serve(monkeypatch, capsys, {"CORS_ORIGINS": origins})
    assert found.startswith("JOBCAST_CORS_ORIGINS: must be origins such as")


def test_all_faults_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = serve(
        monkeypatch, capsys, {"PROT": "1", "MAX_BATCH": "-1", "LOG_LEVEL": "loud"}, "--workers", "0"
    )
    assert [line.partition(":")[0] for line in found] == [
        "JOBCAST_PROT",
        "--workers",
        "JOBCAST_LOG_LEVEL",
        "JOBCAST_MAX_BATCH",
    ]


@pytest.mark.parametrize("name", ["HOST", "METRICS_HOST"])
def test_a_port_in_use_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        variable = name.replace("HOST", "PORT")
        (found,) = serve(monkeypatch, capsys, {variable: str(port)})
    assert found == f"JOBCAST_{variable}: port {port} is in use"


def test_two_that_bind_at_once_cannot_both_listen() -> None:
    first = bind("127.0.0.1", 0)
    port = first[0].getsockname()[1]
    second = bind("127.0.0.1", port)
    listen(first)
    with pytest.raises(ConfigurationError, match=f"port {port} is in use"):
        listen(second)
    for bound in (*first, *second):
        bound.close()


def test_a_checkpoint_whose_files_changed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for file in DEFAULT_CHECKPOINT.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    (found,) = serve(monkeypatch, capsys, {"CHECKPOINT": str(tmp_path)})
    assert found == "JOBCAST_CHECKPOINT: config.json is missing or does not match its sha256 in jobcast.json"


def test_what_kubernetes_sets_beside_a_service_called_jobcast_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
        monkeypatch.setenv(f"JOBCAST_{name}", "10.0.0.1")
    monkeypatch.setenv("JOBCAST_PORT", "tcp://10.0.0.1:80")
    assert load_settings().port == DEFAULT_PORT
    monkeypatch.setenv("JOBCAST_SERVICE_HOSTS", "10.0.0.1")
    with pytest.raises(ConfigurationError, match="JOBCAST_SERVICE_HOSTS: no such setting"):
        load_settings()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *(("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("", False), ("10.0.0.1", False), ("localhost.example", False)),
    ],
)
def test_only_loopback_needs_no_key(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    keyed = Settings(host=host, api_keys=KEY_LINE)  # type: ignore[arg-type]
    check_exposure(keyed)
    check_exposure(Settings(host=host, allow_anonymous=True))
    if not loopback:
        with pytest.raises(ConfigurationError, match="JOBCAST_API_KEYS_FILE"):
            check_exposure(Settings(host=host))


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCAST_PORT", "9000")
    assert load_settings(port=9001, host=None).port == 9001
    monkeypatch.setenv("JOBCAST_DATA", "/corpus")
    assert load_settings().port == 9000


def test_secrets_do_not_show_in_settings() -> None:
    shown = repr(Settings(api_keys=KEY_LINE, redis_url=f"redis://:{CANARY}@cache"))  # type: ignore[arg-type]
    assert CANARY not in shown
    assert KEY_LINE not in shown


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    table = page[page.index("## Settings") :]
    missing = [name for name in Settings.model_fields if f"`JOBCAST_{name.upper()}`" not in table]
    assert missing == []
