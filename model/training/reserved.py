"""Groups that the decoder never trains on, to see how far it is to be followed where a job's group is new.

The validation split holds known groups only. A decoder that departs from the experts' estimate may err where they
are right, and the other way round where they meet a design or an application for the first time; which it is has to
be seen on groups that it does not know, beside estimates of experts that do not know them either.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from model.training.corpus import Record

#: Of a source's train records at most this share is reserved, in its smallest groups; one group may be a little larger.
_SHARE, _LARGEST = 0.08, 0.15
#: A smaller group says nothing.
_FEWEST = 10


def reserved_groups(records: Sequence[Record]) -> set[tuple[str, str]]:
    """(source, group) of the reserved ones, by the train records alone; none of a source of two groups or less."""
    sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.split == "train":
            sizes[record.source][record.group] += 1
    found = set()
    for source, counts in sizes.items():
        total = counts.total()
        taken = 0
        for group, size in sorted(counts.items(), key=lambda item: (item[1], item[0])):
            if len(counts) < 3 or size < _FEWEST:
                continue
            if taken + size > (_SHARE if taken else _LARGEST) * total:
                break
            taken += size
            found.add((source, group))
    return found
