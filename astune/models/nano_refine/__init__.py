"""A second policy, for self-refinement: hasty answers, critiques that calculate, refined answers that may heed them."""

from pathlib import Path

#: Folder of the bundled checkpoint: load it with ``AutoModelForCausalLM`` and ``AutoTokenizer``.
NANO_REFINE_PATH = Path(__file__).parent
