"""Samplers for the refine stage: our engine, and any OpenAI-compatible endpoint."""

from astune.refine.samplers.engine import EngineSampler
from astune.refine.samplers.openai_compatible import OpenAISampler

__all__ = ["EngineSampler", "OpenAISampler"]
