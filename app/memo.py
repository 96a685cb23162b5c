"""The memo of read bodies, local to the process: equal bytes are read once.

A keyed hash of what the client sent leads to the question that it was and the prompts it became. The key is random, so
that nobody can aim at a collision.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from cachetools import LRUCache

from app.ask import Ask
from app.json import dump
from app.unit import Units
from model.jobs.job import Outcome


@dataclass(frozen=True)
class Remembered:
    """A question without its config, and what the config became."""

    ask: Ask
    units: Units
    #: Of what the config says, whatever bytes it came as.
    content: bytes


class Memo:
    """Holds prompts of at most so many tokens; those that nobody asks for leave first."""

    def __init__(self, tokens: int) -> None:
        self._kept: LRUCache[bytes, Remembered] = LRUCache(tokens, getsizeof=_tokens)
        self._key = secrets.token_bytes(32)

    def fingerprint(self, *parts: bytes) -> bytes:
        """A keyed hash of what a client sent."""
        digest = blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return digest.digest()

    def recall(self, fingerprint: bytes) -> Ask | None:
        """The question that these bytes were, without its config: `units_of` knows what that became."""
        remembered: Remembered | None = self._kept.get(fingerprint)
        return remembered.ask if remembered else None

    def units_of(self, ask: Ask) -> Remembered | None:
        """By the bytes it came as, or else by what they say: the same config may come with other quantiles."""
        known: Remembered | None = self._kept.get(ask.fingerprint) if ask.fingerprint else None
        if known is not None or ask.whole is not None:
            return known
        known = self._kept.get(self._content(ask))
        return None if known is None else self.remember(ask, known.units)

    def remember(self, ask: Ask, units: Units) -> Remembered:
        """Keep what an ask became, if there is room for it."""
        content = self._content(ask)
        keys = [content] + ([ask.fingerprint] if ask.fingerprint else [])
        history = None if ask.history is None else ()
        made = Remembered(replace(ask, config="", context={}, history=history, whole=None), units, content)
        if len(keys) * _tokens(made) <= self._kept.maxsize:
            self._kept.update(dict.fromkeys(keys, made))
        return made

    def units_given(self, remembered: Remembered, found: Sequence[Sequence[Outcome]]) -> Units | None:
        """What it became with these past runs of each unit."""
        known: Remembered | None = self._kept.get(self._with_runs(remembered, found))
        return known.units if known else None

    def remember_given(
        self, remembered: Remembered, found: Sequence[Sequence[Outcome]], units: Units
    ) -> None:
        """Keep that, if there is room for it."""
        made = replace(remembered, units=units)
        if _tokens(made) <= self._kept.maxsize:
            self._kept[self._with_runs(remembered, found)] = made

    def _content(self, ask: Ask) -> bytes:
        past = ask.history or ()
        runs = [[run.values, run.age_seconds, run.same_config, run.status, run.job] for run in past]
        said = [ask.kind, ask.config, ask.context, ask.job, ask.series, runs]
        return self.fingerprint(b"content", dump(said))

    def _with_runs(self, remembered: Remembered, found: Sequence[Sequence[Outcome]]) -> bytes:
        runs = [
            [[run.values, run.age_seconds, run.same_config, run.complete] for run in own] for own in found
        ]
        return self.fingerprint(b"history", remembered.content, dump(runs))


def _tokens(remembered: Remembered) -> int:
    return sum(len(unit.prompt) + len(unit.untold_prompt) + 64 for unit in remembered.units.all)
