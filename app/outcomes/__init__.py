"""The outcome store: what jobs took, kept in SQL, given back as history, held against what was predicted.

    prediction ─ remembered ─► writer ─► predictions          POST /outcomes ─► reports ─► outcomes, coverage
    prediction without history ─► histories ─► the newest outcomes of its jobs

identity.py   which job it is: keyed digests; nothing else of a job is kept
report.py     one outcome as a client reports it, checked
reports.py    outcomes to rows: by request id or by configuration, each once
history.py    past runs for predictions: one query for all that ask at a time
writer.py     remembers predictions off the critical path
store.py      the statements; rows.py: what goes in and comes out; schema.py: the tables and their version
database.py   connections behind a breaker; urls.py: which databases there are
book.py       all of it together, for the service

What needs SQLAlchemy is imported where a database is configured.
"""


class InvalidDatabaseUrl(ValueError):
    """The URL names no database of ours; the message does not repeat it."""


class OtherVersion(RuntimeError):
    """The tables in the database were made by another release."""
