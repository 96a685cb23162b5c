"""Records as their users know them at another time: an OpenROAD job before its flow has begun.

Some fields of a record are only known once other jobs of its flow have run. Who asks earlier has none of them, and an
expert that always had them answers badly without; so those records are learned from a second time, as a source and a
dialect of their own.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from model.training.corpus import Record

#: OpenROAD's `facts_before_stage` are what the stages before left; the corpus asks for numbers without them as well.
BEFORE_THE_FLOW = "openroad, before the flow"
_SOURCE = "openroad"
_FACTS = re.compile(r"^facts_before_stage:\n(?:[ \t]+.*\n|\n)*", re.MULTILINE)


def without_facts(record: Record) -> Record:
    """The record without what earlier stages left; itself where its config is no text."""
    return replace(record, config=_FACTS.sub("", record.config)) if isinstance(record.config, str) else record


def with_earlier_views(records: Sequence[Record]) -> list[Record]:
    """The records, and behind them those of a flow once more as they are before it, under a source's name of their own.

    Equal texts are one string, as `load` has them: jobs that differ by their facts alone become the same.
    """
    texts: dict[str, str] = {}
    views = []
    for record in (one for one in records if one.source == _SOURCE):
        if isinstance(config := without_facts(record).config, str):
            text = texts.setdefault(config, config)
            views.append(replace(record, source=BEFORE_THE_FLOW, config=text))
    return [*records, *views]


def is_view(record: Record) -> bool:
    """Whether another record is the same run."""
    return record.source == BEFORE_THE_FLOW
