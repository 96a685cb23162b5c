"""Secrets that their place gives away: private key blocks, URLs, headers, flags of known commands, netrc."""

import re
from bisect import bisect

from model.redact.marks import MASK

_KEY_BLOCK = re.compile(
    r"-{2,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{2,5}"
    r".*?(?:-{2,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{2,5}|\Z)"
    r"|PuTTY-User-Key-File-\d:.*?(?:Private-MAC: ?\w*|\Z)",
    re.S,
)
_URL_PASSWORD = re.compile(r"(?<=://)[^\s/:@'\"]{0,200}:[^\s/@'\"]{1,400}(?=@)")
#: A name alone before the @ is a secret where it looks like a key: `https://<token>@host`.
_URL_USER = re.compile(r"(?<=://)(?=[^\s/:@'\"]{0,200}\d)[^\s/:@'\"$]{16,200}(?=@)")
_URL_QUERY = re.compile(
    r"(?i)([?&;](?:sig|signature|key|code|sv?c?_?hash|x-amz-(?:signature|credential|security-token)"
    r"|x-goog-(?:signature|credential))=)(?![$*{<%(\[])[^\s&\"'#]{8,}"
)
_HOOK = re.compile(
    r"(hooks\.slack\.com/(?:services|workflows|triggers)/|/api/webhooks/|webhook\.office\.com/webhookb2/"
    r"|api\.telegram\.org/bot|api\.softlayer\.com/soap/v[\d.]+/)(?![$*{<%(\[])[\w@/.:-]{16,}"
)
_SCHEME = r"(?:basic|bearer|token|digest|negotiate|apikey|api-key|aws4-hmac-sha256|splunk|ssws|key|oauth|bot)"
_HEADER = re.compile(
    rf"(?i)\b((?:(?:proxy-)?authorization|(?:set-)?cookie)(?:\\?[\"'])?(?:\s?[:=]\s?|\s?,\s?)"
    rf"(?:\\?[\"'])?(?:{_SCHEME}\s{{1,4}})?+(?:token=)?+(?:\\?[\"'])?+)(?![\s$*{{<%(\[\"'\\])([^\"'\n\\]{{4,}})"
)
_BARE_SCHEME = re.compile(
    r"(?i)(?<![\w-])((?:basic|bearer)\s{1,4})(?=[a-z+/._~-]{0,40}[\d=])[A-Za-z0-9+/._~-]{8,}={0,2}"
)
#: What .npmrc and the configuration of container registries call user and password in base64.
_AUTH = re.compile(
    r"((?:\b_auth\s?=\s?|[\"']auth[\"']\s?:\s?)[\"']?)(?=[A-Za-z+/]{0,40}[\d=])[A-Za-z0-9+/=]{8,}"
)
_NETRC = re.compile(r"(\blogin\s{1,8}\S{1,100}\s{1,8}password\s{1,8})(?![$*{<%(\[])\S{1,400}")
_PIPED = re.compile(
    r"(\b(?:echo|printf)\s{1,4}(?:-\w{1,4}\s{1,4})?)(\"[^\"$\n]{4,200}\"|'[^'$\n]{4,200}'|[^\s\"'|$*]{4,200})"
    r"(?=\s{0,4}\|[^\n|]{0,200}?(?:-stdin\b|sudo -\S{0,4}S|chpasswd))"
)
_FLAG = re.compile(
    r"(?<=[\s\"',=])(-(?:u|p|P|a|w|U)|--user|--proxy-user)(\s{0,3}|=)(\"[^\"\n]{1,200}\"|'[^'\n]{1,200}'|[\"']{0,2}[^\s\"';|&]{1,200})"
)
#: Flag -> the commands to which it hands a password. In `user:password` only what follows the colon is one.
_COMMANDS = {
    "-p": re.compile(r"\b(?:mysql\w*|mariadb[\w-]*|mongo\w*|sshpass|login|7za?|lftp|sqlcmd|rsync)\b"),
    "-P": re.compile(r"\b(?:zip|unzip|sqlcmd)\b"),
    "-a": re.compile(r"\bredis-cli\b"),
    "-w": re.compile(r"\bldap\w+\b"),
    "-u": re.compile(r"\b(?:curl|wget|lftp|svn)\b"),
    "-U": re.compile(r"\b(?:curl|smbclient)\b"),
}
#: A part of each command: most texts have none, and need no look at their flags.
_COMMAND_PARTS = (
    "curl", "login", "mysql", "mariadb", "mongo", "sshpass", "7z", "lftp", "sqlcmd", "rsync", "zip", "ldap",
    "wget", "svn", "smbclient", "redis-cli",
)  # fmt: skip
_LOOK_BACK = 400


def mask_blocks(text: str) -> str:
    """`text` without private keys, a cut one included."""
    return _KEY_BLOCK.sub(MASK, text) if "PRIVATE KEY" in text or "PuTTY-User-Key" in text else text


def mask_places(text: str, lowered: str) -> str:
    """`text` without what stands where only a secret stands; `lowered` is the same in small letters."""
    if "://" in text or ".com/" in text:
        text = _URL_PASSWORD.sub(MASK, text)
        text = _URL_USER.sub(MASK, text)
        text = _HOOK.sub(rf"\g<1>{MASK}", text)
        if "=" in text:
            text = _URL_QUERY.sub(rf"\g<1>{MASK}", text)
    if "authorization" in lowered or "cookie" in lowered:
        text = _HEADER.sub(_mask_header, text)
    if "basic" in lowered or "bearer" in lowered:
        text = _BARE_SCHEME.sub(rf"\g<1>{MASK}", text)
    if "auth" in lowered:
        text = _AUTH.sub(rf"\g<1>{MASK}", text)
    if "password" in text and "login" in text:
        text = _NETRC.sub(rf"\g<1>{MASK}", text)
    if "|" in text and ("echo" in text or "printf" in text):
        text = _PIPED.sub(rf"\g<1>{MASK}", text)
    if "-" in text and any(part in text for part in _COMMAND_PARTS):
        text = _mask_flags(text)
    return text


def _mask_header(match: re.Match[str]) -> str:
    return match.group() if match[2].strip() == MASK else match[1] + MASK


def _mask_flags(text: str) -> str:
    commands: dict[str, list[int]] = {}  # flag -> where the commands stand that it hands a password to

    def masked(match: re.Match[str]) -> str:
        flag, between, value = match.groups()
        short = flag if len(flag) == 2 else "-u"
        if short not in commands:
            commands[short] = [command.start() for command in _COMMANDS[short].finditer(text)]
        start = match.start()
        nearest = bisect(commands[short], start) - 1
        if nearest < 0 or commands[short][nearest] < _command_start(text, start):
            return match.group()
        secret = value.strip("\"'")
        if short in ("-u", "-U"):
            secret = secret.partition("%" if short == "-U" else ":")[2]
        if not secret or secret[0] in "$%-" or secret == MASK:
            return match.group()
        front, _, back = value.rpartition(secret)
        return f"{flag}{between}{front}{MASK}{back}"

    return _FLAG.sub(masked, text)


def _command_start(text: str, place: int) -> int:
    """Where the command that `place` belongs to begins, at most so far back."""
    lowest = max(0, place - _LOOK_BACK)
    return max(lowest, *(text.rfind(end, lowest, place) for end in "\n;|&"))
