"""Ray actor classes, and one adapter module per engine library."""
