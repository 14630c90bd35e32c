r"""Equivalence of expressions by math-verify (sympy underneath), inside the sandbox.

math-verify parses what a model wrote, may hang on it, and sympy's parser has executed code in the past
(CVE-2024-46946). So three fences: only texts made of known mathematical names get there, they travel as data, and the
grader is a confined process with limits on time and memory.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import secrets
import threading
from typing import TYPE_CHECKING

from astune.tools.types import SandboxLimits, SandboxStop

if TYPE_CHECKING:
    from astune.tools.sandbox import Sandbox

#: Longer expressions are not graded.
MAX_EXPRESSION = 300
LIMITS = SandboxLimits(seconds=5.0, cpu_seconds=4.0)

_KNOWN = """
    frac dfrac tfrac cfrac sqrt cdot times div pi theta phi alpha beta gamma delta lambda mu sigma omega infty circ
    left right sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp pm mp cup cap in notin le leq ge
    geq lt gt ne neq mathbb mathrm text begin end pmatrix bmatrix matrix vmatrix cases binom overline emptyset
    varnothing setminus quad bmod pmod mod gcd lcm max min lfloor rfloor lceil rceil to displaystyle
"""
_NAMES = frozenset(_KNOWN.split())
_CHARACTERS = re.compile(r"[A-Za-z0-9+\-*/^=<>(){}\[\],;:.!|&_%'\\\s]*", re.ASCII)
_SIGNS = {"−": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty "}
_UNICODE = str.maketrans(_SIGNS | {"≤": r"\le ", "≥": r"\ge "})
_REWRITES = (
    (re.compile(r"√\s*\(([^()]*)\)|√\s*(\w+)"), r"\\sqrt{\1\2}"),
    (re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(sqrt|pi|sin|cos|tan|log|ln|exp)(?![A-Za-z])"), r"\\\1 "),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\*\*"), "^"),
)
#: Forms that gather several values; an answer may only use one where the reference does.
_GATHERING = re.compile(r"[=<>\[\];|&]|\\(?:pm|mp|cup|cap|in|le|ge|leq|geq|ne|neq|lt|gt|infty|begin|to|\{)(?![A-Za-z])")
_LIST = re.compile(r"[\d)}]\s*,|\d\s+[\d(]|,\s*[\d(]")

_SCRIPT = """
import json, logging
logging.disable(logging.CRITICAL)
from math_verify import LatexExtractionConfig, parse, verify

def read(text):
    config = (LatexExtractionConfig(boxed_match_priority=0),)
    return parse("\\\\boxed{" + text + "}", config, fallback_mode="no_fallback", parsing_timeout=None)

answer, reference, marker = json.loads(PAYLOAD)
gold, given = read(reference), read(answer)
verdict = bool(verify(gold, given, float_rounding=12, strict=True, timeout_seconds=None)) if gold and given else None
print(marker, json.dumps(verdict))
"""


def as_expression(text: str) -> str | None:
    """Returns ``text`` as LaTeX for the grader, or None where it is no expression of known names only."""
    if len(text) > MAX_EXPRESSION:
        return None
    text = text.translate(_UNICODE)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    known = all(len(word) == 1 or word in _NAMES for word in re.findall(r"[A-Za-z]+", text))
    is_expression = known and "__" not in text and _CHARACTERS.fullmatch(text) and re.search(r"[A-Za-z0-9]", text)
    return text if is_expression and _is_balanced(text) else None


def gathers_more(answer: str, reference: str) -> bool:
    """Whether ``answer`` lists or relates several values where ``reference`` is a single one.

    Without this fence "17 = 18" and "1 17" (read as 1 + 17) pass math-verify against 18.
    """
    return any(pattern.search(answer) and not pattern.search(reference) for pattern in (_GATHERING, _LIST))


def expressions_match(answer: str, reference: str) -> bool | None:
    """Compares two LaTeX expressions in the sandbox; None where they cannot be read or the grader was stopped.

    Blocks for at most ``LIMITS.seconds`` and may be called from any thread. Floats are compared to 12 decimals.
    """
    marker = secrets.token_hex(8)
    code = _SCRIPT.replace("PAYLOAD", repr(json.dumps([answer, reference, marker])))
    result = _grader.sandbox().run_sync(code, LIMITS)
    if result.stop_reason is not SandboxStop.EXIT or result.returncode != 0:
        return None
    verdicts = {f"{marker} true": True, f"{marker} false": False}
    return verdicts.get(result.stdout.strip())


def _is_balanced(text: str) -> bool:
    depth = 0
    for char in re.sub(r"\\[{}]", "", text):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


class _Grader:
    """The process-wide grading sandbox: started when first needed, anew after a fork, closed at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._owner = 0

    def sandbox(self) -> Sandbox:
        from astune.tools.sandbox import Sandbox

        with self._lock:
            if self._sandbox is None or self._owner != os.getpid():
                self._sandbox, self._owner = Sandbox(preload=("math_verify",)), os.getpid()
                atexit.register(self.close)
            return self._sandbox

    def close(self) -> None:
        with self._lock:
            if self._sandbox is not None and self._owner == os.getpid():
                self._sandbox.close()
            self._sandbox = None


_grader = _Grader()
