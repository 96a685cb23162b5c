"""Masked texts under the plug-ins of detect-secrets: an independent judge finds nothing in them."""

from collections.abc import Iterator
from string import ascii_letters, digits

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin
from detect_secrets.settings import default_settings

from model.redact import MASK, mask
from tests.canaries import Maker, canaries

#: Addresses are no secrets, and are not masked.
LEFT_OUT = {"IPPublicDetector"}


@pytest.fixture(scope="module")
def plugins() -> list[BasePlugin]:
    with default_settings():
        classes = get_mapping_from_secret_type_to_class().values()
    return [plugin() for plugin in classes if plugin.__name__ not in LEFT_OUT]


def findings(plugins: list[BasePlugin], text: str) -> Iterator[tuple[str, str]]:
    """Secret type and secret of all that some plug-in finds in the lines of a text."""
    for line in text.split("\n"):
        for plugin in plugins:
            for found in plugin.analyze_line(filename="x.py", line=line, line_number=1):
                yield found.type, str(found.secret_value)


WRITTEN = ("{}", 'x = "{}"', "key: '{}'", "{}  # why")


def test_what_the_plug_ins_find_is_masked(plugins: list[BasePlugin]) -> None:
    found: set[str] = set()
    left: list[tuple[str, str, str]] = []
    for canary in canaries(700):
        for around in WRITTEN:
            text = around.replace("{}", canary.text)
            found |= {kind for kind, _ in findings(plugins, text)}
            left += [
                (canary.form, kind, secret)
                for kind, secret in findings(plugins, mask(text))
                if secret.strip("\"' ") != MASK
            ]
    assert left == []
    assert len(found) > 15  # the judge knows these forms


MAKER = Maker(7)
#: Each as that plug-in's own documentation describes it, in a form that the canaries do not have.
OTHERS = [
    'cl_api_key = "abcdefghijklmnopqrstuvwx"',
    'sl_api_key: "' + "0a" * 32 + '"',
    'ibm_iam_key = "' + MAKER.draw(ascii_letters + digits + "-_", 44) + '"',
    'cos_secret_access_key = "' + "0a1b" * 12 + '"',
    'aws_key = "' + MAKER.draw(ascii_letters + digits + "/+", 40) + '"',
    'if (my_password == "hunter22")',
    "-----BEGIN DSA PRIVATE KEY-----",
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
    "https://api.softlayer.com/soap/v3/" + "0a1z" * 16,
]


@pytest.mark.parametrize("text", OTHERS)
def test_further_forms_of_the_plug_ins_are_masked(plugins: list[BasePlugin], text: str) -> None:
    assert list(findings(plugins, text))
    assert [secret for _, secret in findings(plugins, mask(text)) if secret.strip("\"' ") != MASK] == []
