"""Commands of `jobs/evaluate.py`, one module each, as `jobs/commands.py` describes them."""
