"""Hypothesis, experiment, feedback, memory: an agent that improves a model until its budget is spent."""
