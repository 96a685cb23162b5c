"""Load and fault experiments against a running service; never imported by it."""
