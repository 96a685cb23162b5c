"""Masks: what must go, what must stay."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.redact import is_secret_name, mask

TOKENS = [
    "ghp_" + "a1B2" * 9,
    "github_pat_11AAAAAAA0" + "x9" * 20,
    "glpat-" + "Zx9_" * 5,
    "AKIA" + "ABCD1234EFGH5678",
    "AIza" + "Sy9-" * 9,
    "xoxb-123456789012-abcdefABCDEF",
    "npm_" + "q7W" * 12,
    "pypi-" + "AgEIcHlwaS5vcmc" * 3,
    "sk-" + "t0K3n" * 6,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4",
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "around", ["{}", "curl -H 'Authorization: Bearer {}' x", "KEY={};", '"{}"', "see {} there"]
)
def test_tokens_of_known_shape_are_masked(token: str, around: str) -> None:
    assert token not in mask(around.format(token))


def test_private_keys_and_url_passwords_are_masked() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
    assert mask(f"before\n{key}\nafter") == "before\n***\nafter"
    assert mask("git clone https://ann:hunter22@host/x") == "git clone https://***@host/x"


@pytest.mark.parametrize(
    "text", ["password: hunter22", "API_KEY=abcd1234", 'db_passwd = "hunter22"', "--token=zyxw9876"]
)
def test_literals_behind_secret_names_are_masked(text: str) -> None:
    masked = mask(text)
    assert "***" in masked
    assert not any(secret in masked for secret in ("hunter22", "abcd1234", "zyxw9876"))


@pytest.mark.parametrize(
    "text",
    [
        "token: ${{ secrets.GITHUB_TOKEN }}",
        "password: $PASS",
        "id-token: write",
        "tokens: 12",
        "secret: true",
    ],
)
def test_expressions_and_permissions_stay(text: str) -> None:
    assert mask(text) == text


@given(st.integers(0, 10**18))
def test_decimal_numbers_are_never_taken_for_hashes(number: int) -> None:
    assert mask(f"size {number} bytes") == f"size {number} bytes"


@pytest.mark.parametrize(
    "digest", ["fed16d7", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
)
def test_hashes_are_masked(digest: str) -> None:
    assert mask(f"at {digest} now") == "at # now"
    assert mask("3f2504e0-4f89-11d3-9a0c-0305e82c3301") == "#"


@pytest.mark.parametrize("word", ["defaced", "1234567", "effaced", "decade", "abcdef", "2.0-2318"])
def test_words_and_versions_are_not_hashes(word: str) -> None:
    assert mask(word) == word


def test_dates_and_home_directories_are_masked() -> None:
    assert mask("built 2026-11-21T10:00:00Z by /home/ann/x") == "built @date by ~/x"
    assert mask("C:\\Users\\ann\\x") == "~\\x"


@pytest.mark.parametrize(
    "path",
    [
        "benchmarks/titan_blif/other_benchmarks/stratixiv/CH_DFSIN_stratixiv_arch_timing.blif",
        "arch/complex_switch/k4_N8_topology-0.85sL2-0.15gL4-on-cb-off-sb_22nm_22nm.xml",
        "NFCORE_CHIPSEQ:CHIPSEQ:DEEPTOOLS_PLOTHEATMAP",
        "org.apache.camel.kafkaconnector.CamelSinkConnectorConfig",
    ],
)
def test_long_paths_and_identifiers_stay(path: str) -> None:
    assert mask(path) == path


def test_long_random_strings_are_masked() -> None:
    generator = random.Random(1)
    alphabet = string.ascii_letters + string.digits
    strings = ["".join(generator.choices(alphabet, k=44)) for _ in range(200)]
    kept = [text for text in strings if mask(f"value {text}") != "value ***"]
    assert len(kept) <= 10  # a few look like words by chance


@given(st.text(string.printable, max_size=80))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


def test_names_that_promise_secrets() -> None:
    assert all(map(is_secret_name, ["password", "DB_PASSWORD", "api-key", "github.token", "CLIENT_SECRET"]))
    assert not any(map(is_secret_name, ["tokenizer", "passes", "author", "keys", "max_tokens"]))
