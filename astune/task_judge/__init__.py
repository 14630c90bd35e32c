"""Reward protocols: who grades an episode, and how."""
