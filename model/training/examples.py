"""Records of the corpus -> prompts and answers, by the readers and the serializer that serve.

Record --model.jobs.read--> Job --PromptEncoder--> token ids            (the same way as a request)
Record.targets ----------------number code-------> answers
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from model.jobs import Job, Outcome, read
from model.prompt import HISTORY_SHOWN, PromptEncoder
from model.text import full_text
from model.training.corpus import HistoryIndex, Record, scope_of

Tokens = tuple[int, ...]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Example:
    """One record as tokens.

    text: the prompt without history, shared between equal prompts. runs: one token sequence per past outcome,
    newest first. answers: target name -> the number tokens of the measured value.
    """

    source: str
    text: Tokens
    runs: tuple[Tokens, ...]
    answers: dict[str, Tokens]

    def prompt_with_history(self, encoder: PromptEncoder, shown: int | None = None) -> Tokens:
        """The prompt with its newest `shown` past outcomes (default: all it has)."""
        return (*self.text, encoder.history_token, *(token for run in self.runs[:shown] for token in run))


def job_of(record: Record) -> Job:
    """The workflow or the job that the record measured. Raises InvalidConfig as for a request."""
    reading = read(record.kind, record.config, record.context)
    if reading.workflow is not None and (scope_of(record) == "workflow" or not reading.jobs):
        return reading.workflow
    return reading.jobs[0]


def text_of(record: Record) -> str:
    """The canonical text without a budget: for the tokenizer and for baselines."""
    return full_text(job_of(record))


def map_records(
    work: Callable[[Record], Result], records: Sequence[Record], processes: int
) -> Iterator[Result]:
    """`work` on every record, in order, on some processes (forked: `work` may be a closure's bound method)."""
    if processes <= 1:
        yield from map(work, records)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(work, records, chunksize=64)


def examples(
    records: Sequence[Record],
    encoder: PromptEncoder,
    index: HistoryIndex,
    *,
    processes: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Example]:
    """One example per record, in order; `advance` is called after each."""
    known: dict[Tokens, Tokens] = {}
    made = []
    tokens = map_records(_Encode(encoder), records, processes)
    for record, text in zip(records, tokens, strict=True):
        runs = tuple(run_tokens(encoder, past) for past in index.history_of(record, limit=HISTORY_SHOWN))
        answers = {name: tuple(encoder.value_ids(value)) for name, value in record.targets.items()}
        made.append(Example(record.source, known.setdefault(text, text), runs, answers))
        advance()
    return made


def run_tokens(encoder: PromptEncoder, outcome: Outcome) -> Tokens:
    """One past outcome without the token that opens the history."""
    return tuple(encoder.history_ids([outcome])[1:])


class _Encode:
    """Picklable for worker processes."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder = encoder

    def __call__(self, record: Record) -> Tokens:
        return self._encoder.prompt(job_of(record)).ids
