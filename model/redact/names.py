"""Names that promise a secret as their value.

A name is taken apart into words (`dbPassword`, `DB_PASSWORD`, `db-password`), so that `tokenizer`, `max_tokens`,
`token_file` and `bypass` promise nothing.
"""

import re

_KEY_OWNERS = (
    "api|auth|access|account|service|db|database|priv|private|client|secret|signing|encryption|encrypt|decrypt|master"
    "|ssh|deploy|license|licence|storage|app|consumer|session|subscription|webhook|hmac|aes|rsa|gpg|pgp|jwt|sas|cookie"
    "|accesskey|rest"
)
#: Tokens are counted too: several of them are secrets where it says whose.
_OWNERS_OF_SEVERAL = (
    "api|auth|access|refresh|bearer|deploy|session|service|client|user|bot|github|gitlab|npm|pypi|slack"
)
#: One word, or two that may stand apart, in a name spelled `like_this`.
_SECRET_WORDS = re.compile(
    r"(?:(?:password|passwd|passphrase|passcode|pwd|secret|token)\d*"
    r"|(?:^|_)(?:passwords|passphrases|secrets|credentials?|creds?"
    r"|(?:pg|db|my|key|store|user|root|admin|ftp|smtp|mail|sudo|ssh|ldap|http|proxy|become|login|cert)?pass\d*"
    rf"|(?:{_KEY_OWNERS})_?keys?\d*|(?:^|_)(?:{_OWNERS_OF_SEVERAL})_?tokens|authorization|cookie|connection_?string|contrase[ñn]as?))(?=_|$)"
)
#: Whatever else it says, such a name is about a secret and holds none.
_ABOUT = re.compile(
    r"(?:^|_)(?:file|files|path|paths|dir|directory|folder|name|names|url|uri|urls|endpoint|host|id|ids|arn|ref|len"
    r"|length|count|counts|size|type|types|ttl|expiry|expires|expiration|lifetime|timeout|duration|minutes|seconds|days|limit"
    r"|limits|budget|policy|policies|provider|providers|manager|store|version|permission|permissions|scope|scopes"
    r"|required|enabled|exists|env|var|variable|hint|prompt|field|format|prefix|suffix|index|mode|method|issuer"
    r"|audience|audiences|stdin|algorithm|title|label|description|keyring|rate|vars|public|set|from|valid|check"
    r"|rotation|scan|scanner|scanning|detection|detector|screen|source|sources|class|classes|helper|usage|used)$"
)
#: What stands beside a secret and is none.
_BESIDE = re.compile(r"(?:^|_)(?:user|users|username|login|email|account|external|optional)$")
_NOT_SECRET_BEFORE = re.compile(
    r"secrets?_manager|key_?vault|token_(?:count|type|limit)|secret_(?:store|provider|scan)|"
    r"(?:^|_)(?:max|min|num|n|first|second|third|two|three|one|single|multi|last|next|by|per|allow|low|high|band|all"
    r"|number_of|total|vocab|pad|eos|bos|unk|sep|cls|mask|special|id|no|skip|tests?|write|use|has|is|public)_"
    r"(?:pass|token)(?:_|$)"
)
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_MAY_BE_SECRET = re.compile(r"(?i)pass|pwd|secret|token|cred|key|authorization|cookie|contrase|connection")
#: A longer name is judged by its end.
_LONGEST = 200


def is_secret_name(name: str) -> bool:
    """Whether a key (`db_password`, `API-TOKEN`, `clientSecret`) promises a secret as its value."""
    if _MAY_BE_SECRET.search(name) is None:
        return False
    words = _words(name)
    return (
        _SECRET_WORDS.search(words) is not None
        and _ABOUT.search(words) is None
        and _NOT_SECRET_BEFORE.search(words) is None
    )


def is_beside_secret(name: str) -> bool:
    """Whether a key inside of `passwords: {...}` says something else than a secret: `file`, `user`, `url`."""
    words = _words(name)
    return _ABOUT.search(words) is not None or _BESIDE.search(words) is not None


def owner_inside(key: str, above: str) -> str:
    """Whose name decides on the value of a key inside of a mapping that is called `above`: the secret-sounding one."""
    return above if above and is_secret_name(above) and not is_beside_secret(key) else key


def _words(name: str) -> str:
    return re.sub(r"[\W_]+", "_", _HUMPS.sub("_", name[-_LONGEST:])).strip("_").lower()
