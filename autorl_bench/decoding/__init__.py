"""Completions of a whole split, decoded in a process of their own while Inspect does its work in this one."""

from autorl_bench.decoding.client import Completions, decode
from autorl_bench.decoding.orders import Completion, Order, Prompt

__all__ = ["Completion", "Completions", "Order", "Prompt", "decode"]
