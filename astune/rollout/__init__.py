"""Rollouts: the engine that samples tokens, and the runner that makes episodes of them."""
