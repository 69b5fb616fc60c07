"""Subcommands of `jobs/evaluate.py`, one module each, imported only when asked for.

A command module has `add_arguments(parser)` and `run(arguments)`.
"""
