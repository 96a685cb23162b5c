"""Job -> prompt: canonical text, past outcomes, evidence and known values as token ids.

    text ids | <history> run run ... | <evidence> <met:k> code code code | <target> code (given values) | ask
                         run = <run> <age:k> <same> [<cut>] (<target> code)...
                                       one code per target in the checkpoint's order, <none>... where there is none

The ask is `<target>`, or `<target/estimate>` where the evidence holds an estimate: the answer then is the ratio of the
value to the estimate as its code decodes. So a decoder that knows nothing yet is as good as the estimate, and all it
learns is where and how far to depart from it. Estimates can be read back from the ids: equal ids mean equal answers.
Numbers of five or more figures in the text, and every value of the history, are written in the number code, with the
very tokens the model answers in: four tokens for a byte count, and an answer near a past outcome is a copy.
Only this module emits special tokens: text that spells one (`<e+3>`) is encoded as plain characters.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tokenizers import Tokenizer

from model.errors import ValueOutOfRange
from model.evidence.columns import LEVELS
from model.evidence.expert import Evidence
from model.jobs.job import AGE_STEPS, Job, Outcome, Value
from model.numbers import NumberCode
from model.targets import Target
from model.text import canonical_text

#: Past outcomes that the prompt shows, newest first; more change little and cost tokens.
HISTORY_SHOWN = 5

PAD, HISTORY, RUN, CUT = "<pad>", "<history>", "<run>", "<cut>"
EVIDENCE, NONE = "<evidence>", "<none>"
_SAMENESS = {True: "<same>", False: "<changed>", None: "<unknown>"}
_AGES = tuple(f"<age:{step}>" for step in range(AGE_STEPS))
_MET = tuple(f"<met:{level}>" for level in range(LEVELS + 1))

#: Standing alone (not part of a name, version or address) and of five or more figures.
_LONG_NUMBER = re.compile(
    r"(?<![\w.+-])(?=(?:\d\.?){5})(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,2})?(?![\w]|\.\d|-\d)"
)


def special_tokens(targets: Sequence[Target], code: NumberCode) -> list[str]:
    """Every special token, in the order of their ids from 0; number tokens are last and contiguous."""
    structure = [PAD, HISTORY, RUN, CUT, *_SAMENESS.values(), *_AGES, EVIDENCE, NONE, *_MET]
    names = [token(target.name) for token in (target_token, ratio_token) for target in targets]
    numbers = dict.fromkeys(t for position in range(code.length) for t in code.alphabet(position))
    return [*structure, *names, *numbers]


def target_token(name: str) -> str:
    """The token that asks for a target, or tells of its value."""
    return f"<{name}>"


def ratio_token(name: str) -> str:
    """The token that asks for the ratio of a target to its estimate."""
    return f"<{name}/estimate>"


@dataclass(frozen=True)
class Prompt:
    """What the engine reads, and the text it came from."""

    ids: tuple[int, ...]
    text: str
    left_out_characters: int
    #: Time spent on tokens; the rest of making the prompt went into its text.
    tokenize_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Standing:
    """What a prompt says beside its text: estimates by target and familiarity (None: no evidence); any past runs."""

    estimates: Mapping[str, float]
    familiarity: int | None
    history: bool


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
        self._ratio_ids = {target.name: self._id(ratio_token(target.name)) for target in targets}
        #: Token id of each symbol, per position of the code.
        self.symbol_ids: tuple[tuple[int, ...], ...] = tuple(
            tuple(self._id(token) for token in code.alphabet(position)) for position in range(code.length)
        )
        self.history_token = self._id(HISTORY)
        self._run, self._cut = self._id(RUN), self._id(CUT)
        self._same = {known: self._id(token) for known, token in _SAMENESS.items()}
        self._ages = [self._id(token) for token in _AGES]
        self._evidence, self._none = self._id(EVIDENCE), self._id(NONE)
        self._met = [self._id(token) for token in _MET]

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

    def prompt(self, job: Job, evidence: Evidence | None = None, content: Value | None = None) -> Prompt:
        """The prompt of a job without target tokens. content: its `masked_content`, where that is at hand."""
        encoded: dict[str, list[int]] = {}  # fitting has encoded the final text already, unless it was short
        seconds = 0.0

        def count(text: str) -> int:
            nonlocal seconds
            started = time.perf_counter()
            encoded[text] = self.text_ids(text)
            seconds += time.perf_counter() - started
            return len(encoded[text])

        fitted = canonical_text(job, self.token_budget, count, content)
        if fitted.text not in encoded:
            count(fitted.text)
        ids = (*encoded[fitted.text], *self.history_ids(job.history), *self.evidence_ids(evidence))
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
        if not text:
            return []
        # Unlike `encode`, this lets other threads run meanwhile.
        return list(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def value_ids(self, value: float) -> list[int]:
        """A number in the number code. Raises ValueOutOfRange."""
        code = self.code.encode(value)
        return [self.symbol_ids[position][symbol] for position, symbol in enumerate(code)]

    def text_part(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids of a prompt's text: all before history and evidence, whose first tokens no text can spell."""
        for token in (self.history_token, self._evidence):
            if token in ids:
                return ids[: ids.index(token)]
        return ids

    def evidence_ids(self, evidence: Evidence | None) -> list[int]:
        """How familiar the job is and an estimate per target; nothing for no evidence.

        An estimate that the number code cannot write counts as none.
        """
        if evidence is None:
            return []
        ids = [self._evidence, self._met[evidence.familiarity]]
        for name in self.target_ids:
            try:
                ids += self.value_ids(evidence.values[name])
            except (KeyError, ValueOutOfRange):
                ids += [self._none] * self.code.length
        return ids

    def standing(self, ids: Sequence[int]) -> Standing:
        """What a prompt says beside its text, read back from its ids."""
        start = self._evidence_start(ids)
        familiarity = None if start is None else self._met.index(ids[start + 1])
        return Standing(self.estimates(ids), familiarity, self.history_token in ids)

    def _evidence_start(self, ids: Sequence[int]) -> int | None:
        """Where the evidence that a prompt ends with begins; None where there is none."""
        start = len(ids) - 2 - len(self.target_ids) * self.code.length
        return start if start >= 0 and ids[start] == self._evidence else None

    def estimates(self, ids: Sequence[int]) -> dict[str, float]:
        """Target -> its estimate as written in a prompt's evidence; empty where the prompt ends without any."""
        length, start = self.code.length, self._evidence_start(ids)
        if start is None:
            return {}
        found = {}
        for place, name in enumerate(self.target_ids):
            first = start + 2 + place * length
            tokens = ids[first : first + length]
            if tokens[0] != self._none:
                symbols = (self.symbol_ids[position].index(token) for position, token in enumerate(tokens))
                found[name] = self.code.decode(tuple(symbols))
        return found

    def ask(self, name: str, estimates: Mapping[str, float]) -> tuple[int, float]:
        """The token that asks for a target, and what the decoded answer has to be multiplied with."""
        return (self._ratio_ids[name], estimates[name]) if name in estimates else (self.target_ids[name], 1.0)

    def answer_ids(self, name: str, value: float, estimates: Mapping[str, float]) -> list[int]:
        """The ask and the number tokens of its true answer. Raises ValueOutOfRange."""
        token, scale = self.ask(name, estimates)
        return [token, *self.value_ids(value / scale)]

    def history_ids(self, history: Sequence[Outcome]) -> list[int]:
        """Past outcomes, newest first; nothing for none."""
        ids: list[int] = []
        for outcome in history[:HISTORY_SHOWN]:
            ids += [self._run, self._ages[outcome.age_step], self._same[outcome.same_config]]
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
