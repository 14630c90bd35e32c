"""The part of the symbolic grader that runs inside the sandbox. Never import it outside: it parses what a model wrote.

The sandbox's warm parent imports it once. That compares a few expressions of our own, so that each call finds
math-verify's parser built (0.5 s otherwise).
"""

from __future__ import annotations

import logging

from math_verify import LatexExtractionConfig, parse, verify

_CONFIG = (LatexExtractionConfig(boxed_match_priority=0),)
_WARM_UP = ((r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"), ("2(x+1)", "2x+2"), ("(1,2)", r"\{1,2\}"), ("6.5", r"2\pi"))

logging.disable(logging.CRITICAL)  # math-verify warns of every call that sets no timer of its own


def grade(answer: str, reference: str) -> bool | None:
    """Whether two LaTeX expressions are equal by math-verify, floats to 12 decimals; None where one cannot be read."""
    gold, given = _read(reference), _read(answer)
    if not gold or not given:
        return None
    return bool(verify(gold, given, float_rounding=12, strict=True, timeout_seconds=None))


def _read(text: str) -> list[object]:
    boxed = f"\\boxed{{{text}}}"
    found: list[object] = parse(boxed, _CONFIG, fallback_mode="no_fallback", parsing_timeout=None)
    return found


for _answer, _reference in _WARM_UP:
    grade(_answer, _reference)
