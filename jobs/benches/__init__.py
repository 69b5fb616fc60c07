"""The measurements of `jobs/bench.py` that have a module of their own."""
