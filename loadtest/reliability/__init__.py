"""What the service does under hostile input, faults and overload, measured on the real thing: docs/reliability.md."""
