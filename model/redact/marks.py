"""What stands in a text where something was masked."""

MASK = "***"
HASH = "#"
DATE = "@date"
HOME = "~"
