"""Sampling episodes: engine, chat rendering, the recorder of model calls, the runner."""
