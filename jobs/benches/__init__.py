"""Commands of `jobs/bench.py`, one module each, as `jobs/commands.py` describes them, and what they share."""
