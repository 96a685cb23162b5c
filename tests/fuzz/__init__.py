"""Fuzzing of the readers, the envelope and the raw form; `make fuzz` runs as many cases as wanted."""
