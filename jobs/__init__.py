"""Entry points: they wire the library and the actors together."""
