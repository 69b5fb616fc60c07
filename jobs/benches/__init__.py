"""What `jobs/bench.py` measures, one module each."""
