"""Agents that take part in AutoRL-Bench: one folder each; what several of them need is in ``common``."""
