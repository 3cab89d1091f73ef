"""What the broker is about: values, rules and ports. Standard library only; no I/O, no clock, no framework."""
