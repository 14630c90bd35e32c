"""The short name of the tutorial's math agent: ``tutorial.math_agent->ExampleMathLearn``."""

from tutorial.example_math_agent.math_agent import ExampleMathLearn, FinalResult, system_prompt

__all__ = ["ExampleMathLearn", "FinalResult", "system_prompt"]
