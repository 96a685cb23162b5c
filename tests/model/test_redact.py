"""Masks: what must go, what must stay, whatever the text, and in time linear in it."""

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.redact import is_secret_name, looks_secret, mask, mask_secrets, without_literal
from tests.canaries import TELLING, Maker, canaries, leaked

AROUND = ["{}", "curl {} x", "KEY={};", '"{}"', "see '{}' there", "a\n  {}\nb", "x-{}", "({})"]
#: Pieces that the masks look for, alone and repeated: what a hostile text would be made of.
PIECES = [
    "a", "-", "_", "/", " ", "\n", ".", "%", "é", "$", "${{", "[", "<", "'", '"', "\\", "@", "://", "http://a:",
    "key", "token", "token=", "token-", "token.", "api_key", "key_", "password=x,", 'password="', "password: 'a",
    "password: ${{", "password: $(", "password: |\n  ", "password: a\n   b\n", "token: >\n    a\n   b", "password>",
    "eyJ", "eyJ-", "AKIA", "sk-", "sk-a", "SG.", "SG.a", "glsa_aaaaaaaaaaaaaaaaaaaaaa", "dp.pt.", "12345678:", "Q~",
    "1Q~", ".atlasv1.", "aaaaaaaaaaaaaa.atlasv1.", "A", "A%", "0", "f0", "1:", "a1B2", "0123456789abcdef-",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "PuTTY-User-Key-File-2:", "curl -u ", "-u a:b ", "-p x ",
    "docker login ", "echo ", "echo 'aaaa' | ", " | docker login --password-stdin", "login a password ", "Bearer ",
    "Authorization: ", "cookie: ", "?sig=", "hooks.slack.com/services/", "/home", "2020-01-01", "***", "#",
]  # fmt: skip


def test_every_form_of_secret_is_masked_in_every_surrounding() -> None:
    shaped = [canary for canary in canaries(1000) if canary.shaped]
    for around in AROUND:
        for canary in shaped:
            text = around.replace("{}", canary.text)
            assert not canary.seen_in(mask(text)), canary.form
            assert not canary.seen_in(mask_secrets(text)), canary.form


def test_what_only_its_place_gives_away_is_masked_there() -> None:
    placed = [canary for canary in canaries(2000) if not canary.shaped]
    for around in ("{}", "before\n{}\nafter", "    {}\n", "run: |\n  set -e\n  {}\n  make"):
        for canary in placed:
            text = around.replace("{}", canary.text)
            assert not canary.seen_in(mask(text)), canary.form
            assert not canary.seen_in(mask_secrets(text)), canary.form


def test_canaries_are_what_the_tests_take_them_for() -> None:
    found = canaries(2000)
    assert len({canary.secret for canary in found}) == 2000
    assert all(len(canary.secret) > TELLING and canary.seen_in(canary.text) for canary in found)
    assert len({canary.form for canary in found}) > 150
    assert leaked(found[:1], f"<{found[0].text}>") == [found[0].form]
    assert leaked(found[1:], found[0].text) == []


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


@pytest.mark.parametrize(
    "number",
    [
        "1.234567e+09",
        "1.000000e-09",
        "128974848e3",
        "8589934592B",
        "1073741824b",
        "1.234567E12",
        "-1.234567e+9",
    ],
)
def test_numbers_with_an_exponent_or_a_unit_are_no_hashes(number: str) -> None:
    assert mask(f"size {number}, end") == f"size {number}, end"
    assert mask("1234567b8") == mask("1234567e8a") == "#"


@given(st.integers(0, 10**18))
def test_decimal_numbers_are_never_taken_for_hashes(number: int) -> None:
    assert mask(f"size {number} bytes") == f"size {number} bytes"


@pytest.mark.parametrize(
    "digest", ["fed16d7", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
)
def test_hashes_are_masked(digest: str) -> None:
    assert mask(f"at {digest} now") == "at # now"
    assert mask("3f2504e0-4f89-11d3-9a0c-0305e82c3301") == "#"


def test_secrets_alone_leave_dates_paths_and_short_hashes() -> None:
    text = "built 2026-11-21 by /home/ann/x at fed16d7 for 3.10"
    assert mask_secrets(text) == text
    assert mask_secrets("test (0123456789abcdef0123456789abcdef)") == "test (***)"


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


@given(
    st.lists(st.sampled_from([*PIECES, "hunter22", "AKIA" + "ABCDEF234567GHIJ", "a1B2c3D4" * 4]), max_size=9)
)
def test_masking_twice_changes_nothing_more_of_hostile_pieces(pieces: list[str]) -> None:
    text = "".join(pieces)
    for form in (mask, mask_secrets):
        once = form(text)
        assert form(once) == once


@pytest.mark.parametrize("piece", PIECES)
def test_twice_the_text_takes_at_most_three_times_as_long(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        started = time.process_time()
        mask(text)
        return time.process_time() - started

    for _ in range(4):  # other work on the machine shows in single figures
        once = min(seconds(30_000) for _ in range(3))
        twice = min(seconds(60_000) for _ in range(3))
        if twice < 3 * once + 0.003:
            return
    pytest.fail(f"{once:.3f} s, then {twice:.3f} s")


SECRET_NAMES = [
    "password", "DB_PASSWORD", "api-key", "github.token", "CLIENT_SECRET", "clientSecret", "dbPassword", "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY", "authToken", "MYSQL_PWD", "private_key", "API_KEY_2", "PASSWORD_PROD", "SECRET_KEY_BASE",
    "Authorization", "credentials", "db_pass", "signing-key", "X-API-Key", "connectionString", "apikey",
    "api_keys", "privateKeys", "auth_tokens", "refresh-tokens", "passphrases", "db_passwords",
]  # fmt: skip
OTHER_NAMES = [
    "tokenizer", "passes", "author", "keys", "max_tokens", "tokens", "bypass", "compass", "token_file", "secretName",
    "password_length", "SECRET_MANAGER_REGION", "first_pass", "pad_token", "cache-key", "primary_key", "key", "keyword",
    "monkey", "public_key", "access_key_id", "token-url", "id-token-permissions", "secretary", "credential-helper",
    "input_tokens", "n_tokens", "token_count", "monkeys",
]  # fmt: skip


def test_names_that_promise_secrets() -> None:
    assert [name for name in SECRET_NAMES if not is_secret_name(name)] == []
    assert [name for name in OTHER_NAMES if is_secret_name(name)] == []


@pytest.mark.parametrize(
    "value",
    ["", "true", "read", "12", "$TOKEN", "${{ secrets.X }}", "Bearer $TOKEN", "$(cat x)", "~/.ssh/id_rsa"],
)
def test_what_is_behind_a_secret_name_and_no_secret(value: str) -> None:
    assert without_literal(value) == value


@pytest.mark.parametrize(
    "value", ["hunter2", "pa$$word", "p4$word", "1234", "correct horse battery", "/aB3+x"]
)
def test_literals_behind_a_secret_name_go_whatever_they_are(value: str) -> None:
    assert without_literal(value) == "***"


@pytest.mark.parametrize(
    "taken",
    [
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e04f8911d39a0c0305e82c3301", "01JDGXK5T8Q4Z9V7W2N6M3P1RS",
        "build-1234.retry-2", "2Qx0fLhqXrMSNbPTr8DqGIuMkHb", "deploy-eu-central-1-2026-11-21T10.00.00",
    ],
)  # fmt: skip
def test_usual_request_ids_do_not_look_secret(taken: str) -> None:
    assert not looks_secret(taken)


def test_tokens_and_long_random_words_look_secret() -> None:
    maker = Maker(3)
    assert looks_secret("ghp_" + maker.draw(string.ascii_letters + string.digits, 36))
    assert looks_secret(maker.draw(string.ascii_letters + string.digits, 40))
    assert looks_secret("AKIA" + maker.draw(string.ascii_uppercase + "234567", 16))


#: What configurations are made of, and what must reach the model as it is.
ORDINARY = [
    "ghcr.io/home-assistant/amd64-builder:2024.03.5", "python==3.11.7", "actions/setup-java@v4", "-Dmaven.test.skip",
    "quay.io/biocontainers/samtools:1.17--h00cdaf9_0", "nf-core/rnaseq", "gcc@12.3.0 +openmp ~cuda target=x86_64_v3",
    "arch/COFFE_22nm/k6FracN10LB_mem20K_complexDSP_customSB_22nm", "SPAdes-MaxBin2-test_minigut_hg38hostC",
    "KubernetesServiceIPv4RangeForCluster", "alignSJstitchMismatchNmax4", "sky130_fd_sc_hd__tt_025C_1v80.lib",
    "docker run -u 1000:1000 -p 8080:80 -v $PWD:/w image", "mkdir -p build && cd build", "ssh -p 2222 host",
    "--health-cmd 'pg_isready -U postgres'", "--max-tokens=4096 --pad-token-id 0", "tokens: 4096", "bypass=12345",
    "git clone https://git@github.com/x/y.git", "https://example.org:8080/a@b", "postgres://db:5432/x",
    "input_bytes: 17179869184", "basic authentication is off", "token: ${{ secrets.GITHUB_TOKEN }}",
    "curl -u $USER:$PASS https://x", "PGPASSWORD=$PASS psql", "password: ${PASS}", "permissions: {id-token: write}",
    "persist-credentials: false", "secrets: inherit", "key: cache-${{ hashFiles('**/pom.xml') }}",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_configuration_stays(text: str) -> None:
    assert mask_secrets(text) == text
