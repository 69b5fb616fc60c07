"""The generative reward model: what it learns from, how it is trained, how it is published."""
