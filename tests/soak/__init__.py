"""Runs that are killed, stopped, moved, copied and resumed at random: `python -m tests.soak -h`."""
