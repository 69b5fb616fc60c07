"""Subcommands of `jobs/evaluate.py`, one module each.

A module is imported only when its command is run. It defines `add_arguments(parser)` and `run(arguments)`; its
docstring is the command's help text.
"""
