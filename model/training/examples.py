"""Records of the corpus -> prompts and answers, by the readers and the serializer that serve.

Record --model.jobs.read--> Job --PromptEncoder--> token ids            (the same way as a request)
Record.targets ----------------number code-------> answers
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from model.evidence.expert import Evidence
from model.jobs import Job, Outcome, read
from model.prompt import HISTORY_SHOWN, PromptEncoder
from model.text import full_text
from model.training.corpus import Histories, Record, scope_of
from model.training.forking import RECORDS, forked
from model.training.held_out import HeldOut, Piece

Tokens = tuple[int, ...]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Told:
    """A piece of evidence as tokens, and per target the ask and its answer where a prompt ends with it."""

    tokens: Tokens
    answers: dict[str, Tokens]


@dataclass(frozen=True, slots=True)
class Example:
    """One record as tokens.

    text: the prompt without history, shared between equal prompts. runs: one token sequence per past outcome,
    newest first. answers: target name -> the number tokens of the measured value.
    evidence: what experts that do not know the record say of it, without its history: first those that know its
    group, then those that do not. informed: what they say with exactly these runs shown.
    """

    source: str
    text: Tokens
    runs: tuple[Tokens, ...]
    answers: dict[str, Tokens]
    evidence: tuple[Told, ...] = ()
    informed: Told | None = None

    def prompt(self, encoder: PromptEncoder, told: Told | None, *, with_history: bool = False) -> Tokens:
        """The prompt without an ask: its text, its past outcomes if wanted, a piece of evidence if any."""
        history: Tokens = ()
        if with_history:
            history = (encoder.history_token, *(token for run in self.runs for token in run))
        return (*self.text, *history, *(told.tokens if told else ()))

    def tails(self, encoder: PromptEncoder, told: Told | None) -> dict[str, Tokens]:
        """Per target the ask and its answer, behind a prompt with that piece of evidence."""
        if told:
            return told.answers
        return {name: (encoder.target_ids[name], *answer) for name, answer in self.answers.items()}


def job_of(record: Record) -> Job:
    """The workflow or the job that the record measured. Raises InvalidConfig as for a request."""
    reading = read(record.kind, record.config, record.context)
    if reading.workflow is not None and (scope_of(record) == "workflow" or not reading.jobs):
        return reading.workflow
    return reading.jobs[0]


def text_of(record: Record) -> str:
    """The canonical text without a budget: for the tokenizer and for baselines."""
    return full_text(job_of(record))


def examples(
    records: Sequence[Record],
    encoder: PromptEncoder,
    index: Histories,
    *,
    held_out: HeldOut | None = None,
    processes: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Example]:
    """One example per record, in order; `advance` is called after each.

    held_out: what the experts say of each record (`model.training.evidence`); it also tells how many runs to show.
    """
    known: dict[Tokens, Tokens] = {}
    made = []
    said = None if held_out is None else held_out.per_record()

    def encoded(record: Record) -> Tokens:
        return encoder.prompt(job_of(record)).ids

    tokens = forked(encoded, records, processes, chunk=RECORDS)
    for record, text in zip(records, tokens, strict=True):
        history = index.history_of(record, limit=HISTORY_SHOWN)
        answers = {name: tuple(encoder.value_ids(value)) for name, value in record.targets.items()}
        shared = known.setdefault(text, text)
        evidence: tuple[Told, ...] = ()
        informed: Told | None = None
        if said is not None:
            shown, pieces, informed_piece = next(said)
            history = history[:shown]
            evidence = tuple(told for piece in pieces if (told := _told(encoder, record, piece)))
            informed = _told(encoder, record, informed_piece)
        runs = tuple(run_tokens(encoder, past) for past in history)
        made.append(Example(record.source, shared, runs, answers, evidence, informed))
        advance()
    return made


def _told(encoder: PromptEncoder, record: Record, piece: Piece) -> Told | None:
    """A piece of evidence of a record as tokens; None where it holds no estimate."""
    named = zip(encoder.target_ids, piece.estimates.tolist(), strict=True)
    values = {name: math.exp(value) for name, value in named if math.isfinite(value)}
    if not values:
        return None
    tokens = tuple(encoder.evidence_ids(Evidence(values, piece.familiarity)))
    written = encoder.estimates(tokens)
    answers = {name: tuple(encoder.answer_ids(name, v, written)) for name, v in record.targets.items()}
    return Told(tokens, answers)


def run_tokens(encoder: PromptEncoder, outcome: Outcome) -> Tokens:
    """One past outcome without the token that opens the history."""
    return tuple(encoder.history_ids([outcome])[1:])


def evenly_spaced(items: Iterable[Item], source_of: Callable[[Item], str], per_source: int) -> list[Item]:
    """At most so many items of each source, evenly spaced in their order."""
    by_source: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_source[source_of(item)].append(item)
    return [item for group in by_source.values() for item in group[:: max(1, -(-len(group) // per_source))]]
