"""The evidence behind README.md: one module a question, each with ``tables()``; run with ``python -m experiments``."""
