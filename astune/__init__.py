"""Astune makes language-model agents better: refine an answer, train a policy, automate a recipe."""

__version__ = "0.1.0"
