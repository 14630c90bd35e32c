"""GSM8K-shaped word problems from a seeded generator, each with a gold program and a worked solution."""

from astune.task_reader.nano_gsm.family import Family, NanoProblem, Step
from astune.task_reader.nano_gsm.generate import FAMILIES, Split, generate, read_nano_gsm, split_of, to_task

__all__ = ["FAMILIES", "Family", "NanoProblem", "Split", "Step", "generate", "read_nano_gsm", "split_of", "to_task"]
