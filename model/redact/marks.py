"""What stands in a text where something was masked, and where a word can begin."""

MASK = "***"
HASH = "#"
DATE = "@date"
HOME = "~"

#: In front of a word; a line break may be written out, as in JSON.
BOUNDARY = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
