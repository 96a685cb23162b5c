"""Job -> prompt: canonical text, past outcomes and known values as token ids.

    text ids | <history> run run ... | <target> code (given values) | <target>
                         run = <run> <age:k> <same> [<cut>] (<target> code)...

Numbers of five or more figures in the text, and every value of the history, are written in the number code, with the
very tokens the model answers in: four tokens for a byte count, and an answer near a past outcome is a copy.
Only this module emits special tokens: text that spells one (`<e+3>`) is encoded as plain characters.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tokenizers import Tokenizer

from model.errors import ValueOutOfRange
from model.jobs.job import Job, Outcome
from model.numbers import NumberCode
from model.targets import Target
from model.text import canonical_text

#: Past outcomes that the prompt shows, newest first; more change little and cost tokens.
HISTORY_SHOWN = 5
AGE_STEPS = 16

PAD, HISTORY, RUN, CUT = "<pad>", "<history>", "<run>", "<cut>"
_SAMENESS = {True: "<same>", False: "<changed>", None: "<unknown>"}
_AGES = tuple(f"<age:{step}>" for step in range(AGE_STEPS))

#: Standing alone (not part of a name, version or address) and of five or more figures.
_LONG_NUMBER = re.compile(
    r"(?<![\w.+-])(?=(?:\d\.?){5})(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,2})?(?![\w]|\.\d|-\d)"
)


def special_tokens(targets: Sequence[Target], code: NumberCode) -> list[str]:
    """Every special token, in the order of their ids from 0; number tokens are last and contiguous."""
    structure = [PAD, HISTORY, RUN, CUT, *_SAMENESS.values(), *_AGES]
    names = [target_token(target.name) for target in targets]
    numbers = dict.fromkeys(t for position in range(code.length) for t in code.alphabet(position))
    return [*structure, *names, *numbers]


def target_token(name: str) -> str:
    """The token that asks for a target."""
    return f"<{name}>"


@dataclass(frozen=True)
class Prompt:
    """What the engine reads, and the text it came from."""

    ids: tuple[int, ...]
    text: str
    left_out_characters: int
    #: Time spent on tokens; the rest of making the prompt went into its text.
    tokenize_seconds: float = field(default=0.0, compare=False)


class PromptEncoder:
    """Token ids of jobs, values and targets under one tokenizer, number code and token budget."""

    def __init__(
        self, tokenizer: Tokenizer, targets: Sequence[Target], code: NumberCode, token_budget: int
    ) -> None:
        tokenizer.encode_special_tokens = True  # text never turns into special tokens
        self._tokenizer = tokenizer
        self.code = code
        self.token_budget = token_budget
        self.target_ids = {target.name: self._id(target_token(target.name)) for target in targets}
        #: Token id of each symbol, per position of the code.
        self.symbol_ids: tuple[tuple[int, ...], ...] = tuple(
            tuple(self._id(token) for token in code.alphabet(position)) for position in range(code.length)
        )
        self.history_token = self._id(HISTORY)
        self._run, self._cut = self._id(RUN), self._id(CUT)
        self._same = {known: self._id(token) for known, token in _SAMENESS.items()}
        self._ages = [self._id(token) for token in _AGES]

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return int(found)

    @cached_property
    def number_rows(self) -> tuple[int, int]:
        """The contiguous range [first, end) of token ids that a number can use."""
        ids = [identity for position in self.symbol_ids for identity in position]
        return min(ids), max(ids) + 1

    def prompt(self, job: Job) -> Prompt:
        """The prompt of a job without target tokens."""
        encoded: dict[str, list[int]] = {}  # fitting has encoded the final text already, unless it was short
        seconds = 0.0

        def count(text: str) -> int:
            nonlocal seconds
            started = time.perf_counter()
            encoded[text] = self.text_ids(text)
            seconds += time.perf_counter() - started
            return len(encoded[text])

        fitted = canonical_text(job, self.token_budget, count)
        if fitted.text not in encoded:
            count(fitted.text)
        ids = (*encoded[fitted.text], *self.history_ids(job.history))
        return Prompt(ids, fitted.text, fitted.left_out_characters, seconds)

    def text_ids(self, text: str) -> list[int]:
        """Plain text as token ids, its long numbers in the number code."""
        ids: list[int] = []
        position = 0
        for match in _LONG_NUMBER.finditer(text):
            try:
                number = self.value_ids(float(match.group()))
            except ValueOutOfRange:
                continue
            ids += self._plain(text[position : match.start()])
            ids += number
            position = match.end()
        return ids + self._plain(text[position:])

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []

    def value_ids(self, value: float) -> list[int]:
        """A number in the number code. Raises ValueOutOfRange."""
        code = self.code.encode(value)
        return [self.symbol_ids[position][symbol] for position, symbol in enumerate(code)]

    def without_history(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids of a prompt's text: all before the token that opens the history, which no text can spell."""
        return ids[: ids.index(self.history_token)] if self.history_token in ids else ids

    def history_ids(self, history: Sequence[Outcome]) -> list[int]:
        """Past outcomes, newest first; nothing for none."""
        ids: list[int] = []
        for outcome in history[:HISTORY_SHOWN]:
            ids += [self._run, self._ages[age_step(outcome.age_seconds)], self._same[outcome.same_config]]
            if not outcome.complete:
                ids.append(self._cut)
            ids += self.given_ids(outcome.values)
        return [self.history_token, *ids] if ids else []

    def given_ids(self, values: Mapping[str, float]) -> list[int]:
        """Known values in the order of the checkpoint's targets; unknown names are left out."""
        ids: list[int] = []
        for name, token in self.target_ids.items():
            if name in values:
                ids += [token, *self.value_ids(values[name])]
        return ids


def age_step(seconds: float) -> int:
    """Ages in doubling steps from an hour on, so that equal requests a minute apart stay equal."""
    hours = seconds / 3600
    return 0 if hours < 1 else min(1 + math.floor(math.log2(hours)), AGE_STEPS - 1)
