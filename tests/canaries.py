"""Secrets that were never in use, in every form that masking knows: seeded, so that a leak can be repeated.

A `Canary` has a `text`, as somebody would write it, and the `secret` in it that must appear nowhere. `shaped` ones give
themselves away wherever they stand; the others need their place: a name, a flag, a header, a URL.
"""

import base64
import json
import random
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_HEX = "0123456789abcdef"
_LOWER = string.ascii_lowercase + string.digits
_UPPER = string.ascii_uppercase + string.digits
_ALNUM = string.ascii_letters + string.digits
_BASE64 = _ALNUM + "+/"
_URL64 = _ALNUM + "-_"
_BASE32 = string.ascii_uppercase + "234567"
#: So many characters of a secret, its first or its last ones, are a leak.
TELLING = 10


@dataclass(frozen=True)
class Canary:
    """One secret; `form` names its format."""

    form: str
    text: str
    secret: str
    shaped: bool

    def seen_in(self, content: str) -> bool:
        """Whether the secret, or enough of either end of it, stands in `content`."""
        return self.secret[:TELLING] in content or self.secret[-TELLING:] in content


class Maker:
    """Draws secrets of every form from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def draw(self, alphabet: str, length: int) -> str:
        """`length` characters with a digit, a capital and a small letter where the alphabet has them."""
        while True:
            found = "".join(self._random.choices(alphabet, k=length))
            kinds = (str.isdigit, str.isupper, str.islower)
            wanted = [kind for kind in kinds if any(map(kind, alphabet))]
            if all(any(map(kind, found)) for kind in wanted) and found[-1].isalnum() and found[0].isalnum():
                return found

    def word(self) -> str:
        """A password that somebody could remember: no shape tells it from a name."""
        pairs = "".join(
            self._random.choice("bdfgklmnprstvz") + self._random.choice("aeiou") for _ in range(7)
        )
        return f"{pairs}{self._random.randrange(10)}"

    def shaped(self) -> Iterator[Canary]:
        """One canary of every form that is recognized anywhere."""
        for form, (template, alphabet, length) in _SHAPES.items():
            secret = self.draw(alphabet, length)
            yield Canary(form, template.replace("{}", secret), secret, shaped=True)
        for form, make in _SPECIAL.items():
            text, secret = make(self)
            yield Canary(form, text, secret, shaped=True)

    def placed(self) -> Iterator[Canary]:
        """One canary for every place that gives a secret away."""
        for form, template in _PLACES.items():
            secret = self.word()
            yield Canary(form, template.replace("{}", secret), secret, shaped=False)
        for form, template in _ENCODED_PLACES.items():
            secret = base64.b64encode(f"ann:{self.word()}".encode()).decode().rstrip("=")
            yield Canary(form, template.replace("{}", secret), secret, shaped=False)


#: Forms without any mark: found by their randomness alone, nearly always (docs/secrets.md has the shares).
UNMARKED = frozenset(
    (
        "aws secret key",
        "azure storage key",
        "random base64",
        "random base62",
        "random base36",
        "random base32",
    )
)
#: form -> text around the secret, its alphabet, its length.
_SHAPES: dict[str, tuple[str, str, int]] = {
    "github classic": ("ghp_{}", _ALNUM, 36),
    "github oauth": ("gho_{}", _ALNUM, 36),
    "github user": ("ghu_{}", _ALNUM, 36),
    "github server": ("ghs_{}", _ALNUM, 36),
    "github refresh": ("ghr_{}", _ALNUM, 36),
    "github fine-grained": ("github_pat_{}", _ALNUM + "_", 82),
    **{
        f"gitlab {kind}": (f"{kind}-{{}}", _URL64, length)
        for kind, length in {
            "glpat": 20, "gldt": 20, "glft": 20, "glsoat": 20, "glrt": 20, "glrtr": 27, "glcbt": 26,
            "glimt": 25, "glptt": 40, "glagent": 50, "gloas": 64, "glffct": 20, "glwt": 20,
        }.items()
    },
    "gitlab registration": ("GR1348941{}", _URL64, 20),
    "bitbucket": ("ATBB{}", _ALNUM, 32),
    "atlassian": ("ATATT3xFfGF0{}", _URL64, 180),
    "aws access key": ("AKIA{}", _BASE32, 16),
    "aws temporary key": ("ASIA{}", _BASE32, 16),
    "aws secret key": ("{}", _BASE64, 40),
    "azure storage key": ("{}==", _BASE64, 86),
    "azure client secret": ("a1b8Q~{}", _ALNUM, 34),
    "google api key": ("AIza{}", _URL64, 35),
    "google oauth": ("ya29.{}", _URL64, 120),
    "google client secret": ("GOCSPX-{}", _URL64, 28),
    "slack bot": ("xoxb-123456789012-1234567890123-{}", _ALNUM, 24),
    "slack user": ("xoxp-123456789012-123456789012-123456789012-{}", _HEX, 32),
    "slack app": ("xapp-1-A012345-1234567890123-{}", _HEX, 64),
    "slack hook": ("https://hooks.slack.com/services/T0123ABCD/B0123ABCD/{}", _ALNUM, 24),
    "discord bot": ("MTAxMjM0NTY3ODkwMTIzNDU2.GaBcDe.{}", _URL64, 38),
    "discord hook": ("https://discord.com/api/webhooks/123456789012345678/{}", _URL64, 68),
    "telegram bot": ("123456789:{}", _URL64, 35),
    "stripe live": ("sk_live_{}", _ALNUM, 24),
    "stripe test": ("sk_test_{}", _ALNUM, 24),
    "stripe restricted": ("rk_live_{}", _ALNUM, 24),
    "stripe hook": ("whsec_{}", _ALNUM, 32),
    "twilio key": ("SK{}", _HEX, 32),
    "twilio account": ("AC{}", _HEX, 32),
    "sendgrid": ("SG.ab12cd34ef56gh78ij90kl.{}", _URL64, 43),
    "mailgun": ("key-{}", _HEX, 32),
    "mailchimp": ("{}-us12", _HEX, 32),
    "square": ("sq0csp-{}", _URL64, 43),
    "braintree": ("access_token$production$abcdefghijklmnop${}", _HEX, 32),
    **{f"shopify {kind}": (f"{kind}_{{}}", _HEX, 32) for kind in ("shpat", "shpca", "shppa", "shpss")},
    "npm": ("npm_{}", _ALNUM, 36),
    "pypi": ("pypi-AgEIcHlwaS5vcmc{}", _URL64, 150),
    "docker": ("dckr_pat_{}", _URL64, 27),
    "docker organization": ("dckr_oat_{}", _URL64, 32),
    "hugging face": ("hf_{}", _ALNUM, 34),
    "openai": ("sk-{}", _ALNUM, 48),
    "openai project": ("sk-proj-{}", _URL64, 120),
    "openai service": ("sk-svcacct-{}", _URL64, 120),
    "anthropic": ("sk-ant-api03-{}AA", _URL64, 93),
    "groq": ("gsk_{}", _ALNUM, 52),
    "xai": ("xai-{}", _ALNUM, 80),
    "replicate": ("r8_{}", _ALNUM, 37),
    "databricks": ("dapi{}", _HEX, 32),
    "digitalocean": ("dop_v1_{}", _HEX, 64),
    "vault": ("hvs.{}", _URL64, 90),
    "vault old": ("s.{}", _ALNUM, 24),
    "vault batch": ("hvb.{}", _URL64, 120),
    "terraform": ("Ab1Cd2Ef3Gh4Ij.atlasv1.{}", _URL64, 67),
    "doppler": ("dp.pt.{}", _ALNUM, 43),
    "grafana service": ("glsa_{}_0a1b2c3d", _ALNUM, 32),
    "grafana cloud": ("glc_{}", _ALNUM, 60),
    "new relic": ("NRAK-{}", _UPPER, 27),
    "datadog": ("{}", _HEX, 32),
    "datadog application": ("{}", _HEX, 40),
    "sentry": ("sntrys_{}", _ALNUM, 80),
    "linear": ("lin_api_{}", _ALNUM, 40),
    "postman": ("PMAK-0123456789abcdef01234567-{}", _HEX, 34),
    "netlify": ("nfp_{}", _ALNUM, 36),
    "fly": ("fo1_{}", _URL64, 43),
    "artifactory": ("AKC{}", _ALNUM, 70),
    "artifactory reference": ("cmVmdGtu{}", _ALNUM, 56),
    "artifactory password": ("AP6{}", _ALNUM, 40),
    "age": ("AGE-SECRET-KEY-1{}", _UPPER, 58),
    "planetscale": ("pscale_tkn_{}", _URL64, 43),
    "pulumi": ("pul-{}", _HEX, 40),
    "supabase": ("sbp_{}", _HEX, 40),
    "rubygems": ("rubygems_{}", _HEX, 48),
    "crates": ("cio{}", _ALNUM, 32),
    "sourcegraph": ("sgp_{}", _HEX, 40),
    "buildkite": ("bkua_{}", _LOWER, 40),
    "sonarqube": ("squ_{}", _HEX, 40),
    "heroku": ("HRKU-{}", _URL64, 58),
    "figma": ("figd_{}", _URL64, 40),
    "notion": ("ntn_{}", _ALNUM, 46),
    "dropbox": ("sl.u.{}", _URL64, 130),
    "random base64": ("{}", _BASE64, 64),
    "random base62": ("{}", _ALNUM, 40),
    "random base36": ("{}", _LOWER, 48),
    "random base32": ("{}", _BASE32, 52),
    "random hexadecimal": ("{}", _HEX, 64),
    "token in a URL": ("https://{}@git.example.org/x.git", _LOWER, 30),
    "signed URL": ("https://x.blob.core.windows.net/c?sv=2024-01-01&sig={}%3D", _ALNUM, 43),
}  # fmt: skip


def _jwt(maker: Maker) -> tuple[str, str]:
    header, claims = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": maker.word(), "iat": 1764000000})
    )
    signature = maker.draw(_URL64, 43)
    return f"{header}.{claims}.{signature}", signature


def _pem(kind: str, newline: str = "\n") -> Callable[[Maker], tuple[str, str]]:
    def make(maker: Maker) -> tuple[str, str]:
        body = [maker.draw(_BASE64, 64) for _ in range(4)]
        lines = [f"-----BEGIN {kind}-----", *body, f"-----END {kind}-----"]
        return newline.join(lines), body[1]

    return make


def _putty(maker: Maker) -> tuple[str, str]:
    secret = maker.draw(_BASE64, 64)
    head = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: k\nPublic-Lines: 1\nAAAAC3Nz"
    return f"{head}\nPrivate-Lines: 1\n{secret}\nPrivate-MAC: {maker.draw(_HEX, 64)}", secret


def _cut_key(maker: Maker) -> tuple[str, str]:
    secret = maker.draw(_BASE64, 64)
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}", secret


def _service_account(maker: Maker) -> tuple[str, str]:
    key, secret = _pem("PRIVATE KEY", "\\n")(maker)
    identity = maker.draw(_HEX, 40)
    return json.dumps({"type": "service_account", "private_key_id": identity}).replace(
        "}", f', "private_key": "{key}"}}'
    ), secret


_SPECIAL: dict[str, Callable[[Maker], tuple[str, str]]] = {
    "jwt": _jwt,
    "rsa key": _pem("RSA PRIVATE KEY"),
    "pkcs8 key": _pem("PRIVATE KEY"),
    "ec key": _pem("EC PRIVATE KEY"),
    "openssh key": _pem("OPENSSH PRIVATE KEY"),
    "encrypted key": _pem("ENCRYPTED PRIVATE KEY"),
    "pgp key": _pem("PGP PRIVATE KEY BLOCK"),
    "key on one line": _pem("RSA PRIVATE KEY", "\\n"),
    "putty key": _putty,
    "cut key": _cut_key,
    "service account": _service_account,
}

#: form -> a line of a script or a file in which only the place tells that `{}` is a secret.
_PLACES = {
    "env": "export DB_PASSWORD={}",
    "env quoted": 'API_KEY="{}"',
    "env with spaces": "MYSQL_PWD='{} and more'",
    "env secret": "AWS_SECRET_ACCESS_KEY={} make deploy",
    "env camel": "clientSecret={}",
    "pgpassword": "PGPASSWORD={} psql -h db",
    "yaml": "password: {}",
    "yaml several words": "password: correct horse {}",
    "yaml quoted": "api_key: '{}'",
    "yaml block": "token: |\n  {}\nnext: x",
    "yaml token": "auth-token: {}",
    "json": '{"password": "{}", "user": "ann"}',
    "json escaped": '{\\"client_secret\\": \\"{}\\"}',
    "toml": 'secret_key = "{}"',
    "ini": "passwd = {}",
    "properties": "spring.datasource.password={}",
    "xml": "<password>{}</password>",
    "code": 'os.environ["API_TOKEN"] = "{}"',
    "call": 'setSecret("{}")',
    "java property": "-Dsonar.token={}",
    "flag": "--password {}",
    "flag with =": "--token={}",
    "flag quoted": "--api-key '{}'",
    "docker env": "docker run -e DB_PASS={} image",
    "docker login": "docker login -u ann -p {} registry.example.org",
    "docker login by pipe": "echo {} | docker login -u ann --password-stdin",
    "helm login": "helm registry login -u ann --password {} host",
    "curl user": "curl -u ann:{} https://example.org",
    "curl long user": "curl --user 'ann:{}' https://example.org",
    "mysql": "mysql -u root -p{} -e 'SELECT 1'",
    "sshpass": "sshpass -p {} ssh host",
    "redis": "redis-cli -a {} ping",
    "url": "https://ann:{}@git.example.org/x.git",
    "postgres url": "postgres://ann:{}@db:5432/x",
    "redis url": "redis://:{}@cache:6379/0",
    "url query": "https://example.org/x?access_token={}&a=1",
    "connection string": "Server=db;Uid=ann;Pwd={};Database=x",
    "jdbc": "jdbc:mysql://db/x?user=ann&password={}&ssl=true",
    "storage connection": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=x",
    "service bus": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={}",
    "bearer": "curl -H 'Authorization: Bearer {}' https://example.org",
    "token header": 'curl -H "Authorization: token {}" https://example.org',
    "api key header": "curl -H 'X-API-Key: {}' https://example.org",
    "private token header": 'curl --header "PRIVATE-TOKEN: {}" https://example.org',
    "cookie": "curl -H 'Cookie: session={}' https://example.org",
    "netrc": "machine example.org login ann password {}",
    "npmrc": "//registry.example.org/:_authToken={}",
    "pip": "pip install https://ann:{}@packages.example.org/x.whl",
    "passphrase": "gpg --batch --passphrase {} -d x.gpg",
    "keystore": "-Pandroid.storePassword={} -PkeyPassword=x",
    "ansible": "ansible_become_pass: {}",
    "kubernetes": "kubectl create secret generic x --from-literal=db-password={}",
    "credentials": "credentials: {}",
}  # fmt: skip
_ENCODED_PLACES = {
    "basic": "Authorization: Basic {}",
    "docker config": '{"auths": {"registry.example.org": {"auth": "{}"}}}',
    "npmrc basic": "//registry.example.org/:_auth={}",
}

#: Names under which a literal is a secret whatever it looks like.
SECRET_NAMES = (
    "password", "DB_PASSWORD", "api-key", "API_TOKEN", "clientSecret", "aws_secret_access_key", "private_key",
    "passphrase", "ACCESS_KEY", "npm_token", "credentials", "MYSQL_PWD", "authToken", "signing_key",
)  # fmt: skip


def canaries(count: int, seed: int = 20261125) -> list[Canary]:
    """`count` different canaries, all forms in turn."""
    maker = Maker(seed)
    found: list[Canary] = []
    while len(found) < count:
        found += [*maker.shaped(), *maker.placed()]
    return found[:count]


def leaks(found: Iterable[Canary], content: str) -> set[Canary]:
    """The canaries that stand in `content`; one look at it, however many they are."""
    ends = {end: canary for canary in found for end in (canary.secret[:TELLING], canary.secret[-TELLING:])}
    windows = (content[place : place + TELLING] for place in range(len(content) - TELLING + 1))
    return {ends[window] for window in windows if window in ends}


def leaked(found: Iterable[Canary], content: str) -> list[str]:
    """Forms of the canaries that stand in `content`."""
    return sorted({canary.form for canary in leaks(found, content)})
