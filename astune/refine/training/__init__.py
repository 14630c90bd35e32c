"""Refinement in the native trainer: what is sampled, what it is worth, and what came of it."""
