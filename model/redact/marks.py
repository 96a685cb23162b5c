"""What stands in a text where something was masked, and where a word can begin."""

MASK = "***"
HASH = "#"
DATE = "@date"
HOME = "~"

#: In front of a word; and where the break in front of it is written out, as in a string of JSON.
BOUNDARY = r"(?<![A-Za-z0-9])"
WRITTEN_BREAK = r"(?<=\\[nrt])"
