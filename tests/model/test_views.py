from dataclasses import replace

from model.training.corpus import Histories, Record
from model.training.evidence import dialect_of
from model.training.views import BEFORE_THE_FLOW, is_view, with_earlier_views, without_facts

FACTS = "stage: cts\nfacts_before_stage:\n  area: 12\n  count: 3\nconfig.mk: |\n  export A = 1\n"
BARE = "stage: cts\nconfig.mk: |\n  export A = 1\n"


def a_record(number: int, source: str = "openroad", config: str | dict[str, object] = FACTS) -> Record:
    return Record(
        id=f"{source}-{number}",
        source=source,
        family="eda",
        kind="eda.openroad",
        group="g",
        key="k",
        date=f"2026-01-0{number}",
        config=config,
        context={},
        targets={"runtime_seconds": float(number)},
        split="train",
    )


def test_what_earlier_stages_left_is_all_that_a_record_loses() -> None:
    assert without_facts(a_record(1)) == a_record(1, config=BARE)
    assert without_facts(a_record(1, config=BARE)) == a_record(1, config=BARE)
    structured = a_record(1, config={"facts_before_stage": {"area": 12}})
    assert without_facts(structured) is structured


def test_jobs_of_a_flow_are_there_twice_and_others_once() -> None:
    records = [a_record(1), a_record(2, "vtr"), a_record(3), a_record(4, config=BARE)]
    found = with_earlier_views(records)
    assert found[:4] == records
    assert found[4:] == [
        replace(record, source=BEFORE_THE_FLOW, config=BARE)
        for record in records
        if record.source == "openroad"
    ]
    assert [is_view(record) for record in found] == [False] * 4 + [True] * 3
    assert len({id(record.config) for record in found[4:]}) == 1  # equal texts are one string


def test_a_view_has_a_dialect_and_a_past_of_its_own() -> None:
    found = with_earlier_views([a_record(1), a_record(2)])
    assert len({dialect_of(record) for record in found}) == 2
    index = Histories(found)
    for record in found:
        past = index.history_of(record)
        assert [outcome.values["runtime_seconds"] for outcome in past] == (
            [1.0] if record.id[-1] == "2" else []
        )
