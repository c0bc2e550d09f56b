"""Damaged files, failing calls, kills and pairs of commands (docs/reliability.md): `python -m tests.faults`."""
