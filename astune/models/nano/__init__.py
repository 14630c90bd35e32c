"""The bundled policy: a tiny Qwen2 that solves word problems with a tool, and three bad habits to train away."""

from pathlib import Path

#: Folder of the bundled checkpoint: load it with ``AutoModelForCausalLM`` and ``AutoTokenizer``.
NANO_PATH = Path(__file__).parent
