"""Refinement: generate, score, reflect, and keep the best; for one answer, for a batch, and inside a trainer."""
