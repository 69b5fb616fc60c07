"""Checks for a machine with a GPU. CI has none: they are run by hand, see README.md in this folder."""
