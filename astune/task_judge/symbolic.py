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
LIMITS = SandboxLimits(seconds=6.0, cpu_seconds=3.0)
_CHILD = "astune.task_judge.symbolic_child"

_KNOWN = """
    frac dfrac tfrac cfrac sqrt cdot times div pi theta phi alpha beta gamma delta lambda mu sigma omega infty circ
    left right sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp pm mp cup cap in notin le leq ge
    geq lt gt ne neq mathbb mathrm text binom overline emptyset
    varnothing setminus bmod pmod mod gcd max min lfloor rfloor lceil rceil to displaystyle
"""
_NAMES = frozenset(_KNOWN.split())
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(?:[pbv]?matrix|cases)\}")
#: Runs of two letters that are words and no product of two variables.
_SHORT_WORDS = frozenset(
    {"or", "if", "is", "no", "to", "of", "in", "at", "by", "it", "so", "an", "as", "be", "do", "on"}
)
_CHARACTERS = re.compile(r"[A-Za-z0-9+\-*/^=<>(){}\[\],;:.!|&_%'\\\s]*", re.ASCII)
_SIGNS = {"−": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty "}
_UNICODE = str.maketrans(_SIGNS | {"≤": r"\le ", "≥": r"\ge "})
_REWRITES = (
    (re.compile(r"√\s*\(([^()]*)\)|√\s*(\w+)"), r"\\sqrt{\1\2}"),
    (re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(sqrt|pi|sin|cos|tan|log|ln|exp)(?![A-Za-z])"), r"\\\1 "),
    (re.compile(r"(?<=\d)(?:\{,\}|\\?,)(?:\\!)?(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;:\s]|~|\\q?quad(?![A-Za-z])|\\text\s*\{\s*\}"), " "),
    (re.compile(r"\*\*"), "^"),
)
#: Forms that gather several values; an answer may only use one where the reference does.
_GATHERING = re.compile(
    r"[=<>\[\];|&]|\\\\|\\\{|\d[\s']*_"
    r"|\\(?:pm|mp|cup|cap|in|le|ge|leq|geq|ne|neq|lt|gt|infty|begin|to)(?![A-Za-z])"
)
_LIST = re.compile(r"[\d)}]\s*,|\d\s+[\d(]|,\s*[\d(]")

_CODE = """
import json
from astune.task_judge.symbolic_child import grade
answer, reference, marker = json.loads({payload!r})
print(marker, json.dumps(grade(answer, reference)))
"""


def as_expression(text: str) -> str | None:
    """Returns ``text`` as LaTeX for the grader, or None where it is no expression of known names only."""
    if len(text) > MAX_EXPRESSION:
        return None
    text = text.translate(_UNICODE)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    is_expression = "__" not in text and _CHARACTERS.fullmatch(text) and re.search(r"[A-Za-z0-9]", text)
    return text if is_expression and _has_known_names(text) and _is_balanced(text) else None


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
    code = _CODE.format(payload=json.dumps([answer, reference, marker]))
    result = _grader.sandbox().run_sync(code, LIMITS)
    if result.stop_reason is not SandboxStop.EXIT or result.returncode != 0:
        return None
    verdicts = {f"{marker} true": True, f"{marker} false": False}
    return verdicts.get(result.stdout.strip())


def _has_known_names(text: str) -> bool:
    """Whether each LaTeX command is known, and each other run of letters a variable, or a product of two."""
    words = re.findall(r"(\\?)([A-Za-z]+)", _ENVIRONMENT.sub("", text))
    return all(
        name in _NAMES if slash else len(name) <= 2 and name.lower() not in _SHORT_WORDS for slash, name in words
    )


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
        self._require: str | None = None

    def sandbox(self) -> Sandbox:
        from astune.tools.sandbox import Sandbox

        with self._lock:
            if self._sandbox is None or self._owner != os.getpid():
                self._sandbox = Sandbox(require=self._require, preload=("math_verify", _CHILD))
                self._owner = os.getpid()
            return self._sandbox

    def require(self, level: str | None) -> None:
        self.close()
        self._require = level

    def close(self) -> None:
        with self._lock:
            if self._sandbox is not None and self._owner == os.getpid():
                self._sandbox.close()
            self._sandbox = None


_grader = _Grader()
atexit.register(_grader.close)


def require_level(level: str | None) -> None:
    """Sets the weakest confinement in which grading may run (``"kernel"``); grading fails closed below it."""
    _grader.require(level)
