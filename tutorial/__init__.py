"""Worked examples: each folder is one agent with its configuration and its page."""
