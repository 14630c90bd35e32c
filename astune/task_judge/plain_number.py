r"""Plain numbers in the spellings that people and models give them, read exactly.

``1,000``, ``18.0``, ``$18``, ``18 eggs``, ``25\%``, ``1/2``, ``1\frac{1}{2}``, ``1.2e3``, ``-\$5``: one number, and
words around it that do not change it. What commits to no single number (``17 or 18``, ``not 18``, ``18x``)
is not read. Values are :class:`fractions.Fraction`; no float takes part.

Units are dropped, on either side: ``25%`` reads as 25 and ``8 dozen`` as 8, as in GSM8K's references. A word such
as ``million`` has two readings, the bare number (the question may ask "in millions") and the multiple.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

_MAX_DIGITS = 60
_MAX_EXPONENT = 60

_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES |= {f"{name}s": value for name, value in _SCALES.items()}

#: Units that may touch the number ("18kg").
_ABBREVIATIONS = (
    "mm cm km in ft yd mi mg kg lb lbs oz ml cl sec secs min mins hr hrs am pm mph kph kw usd eur gbp st nd rd th"
)
_LETTER_UNITS = frozenset("mglshdwvcf")
_TOUCHING_UNITS = frozenset(_ABBREVIATIONS.split()) | _LETTER_UNITS

#: Words beside a number that make it another number, several numbers, or no commitment.
_REFUSALS = """
    or nor not no never neither either between minus negative plus half twice double triple
    third quarter halves thirds squared cubed factorial mod modulo divided multiplied unknown maybe perhaps
    possibly zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    pi sqrt sin cos tan log ln exp frac cdot infinity inf nan
"""
_REFUSED_WORDS = frozenset(_REFUSALS.split())
#: Words that do so only before it: "more than 18", but "18 more than Bob", "18 times", "18 left over".
_REFUSED_BEFORE = frozenset({"than", "over", "under", "times"})

_CURRENCY = r"(?:US\$|[$€£¥₹]|USD|EUR|GBP|Rs\.?)"
_DECIMAL = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4}(?!\d))?"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]\s*)?(?:{_CURRENCY}\s*)?(?P<inner_sign>-)?"
    rf"(?:(?P<whole>\d+)\s+(?:and\s+)?(?P<num>\d+)\s*/\s*(?P<den>\d+)"
    rf"|(?P<top>{_DECIMAL})\s*/\s*(?P<bottom>{_DECIMAL})|(?P<decimal>{_DECIMAL}))",
    re.ASCII,
)
_WORDS = re.compile(r"[^\W\d_]+")
_PROSE = re.compile(
    r"(?:[^\W\d_]|[\s'’\".,:?)%$€£¥₹¢]"
    r"|(?<![^\W\d_])\("  # "(dollars)", not "f(18)"
    r"|(?<=[^\W\d_])[-/](?=[^\W\d_])|(?<=\s)/(?=\s?[^\W\d_])"  # "km/h", "well-known", "$18 / day"
    r"|(?<=[^\W\d_])\^?[23](?!\d))*"  # "cm^2"
)

_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\u2212", "-"),
        (r"\\(?:left|right|displaystyle|big|Big)(?![A-Za-z])", ""),
        (r"\\!", ""),
        (r"\{,\}", ","),
        (r"(?<=\d)(?:\\[,;:\s]|[\u00a0\u2009\u202f~])(?=\d{3}(?!\d))", ","),
        (r"\\[,;:\s]|\\q?quad(?![A-Za-z])|[\u00a0\u2009\u202f~]", " "),
        (r"\\([$%#€£&_])", r"\1"),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*\{\s*(-?)\s*([\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}", r" \1\2/\3 "),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree(?![A-Za-z])|°", " degrees"),
        (r"(?<=\d)\s*(?:\\times|\\cdot|[×·*x])\s*10\s*(?:\^|\*\*)\s*(?:\{\s*([+-]?\d+)\s*\}|([+-]?\d+))", r"e\1\2"),
        (r"(?<=[A-Za-z])[²³]", ""),
        (r"(?<=[A-Za-z])\s*\^\s*\{?([23])\}?", r"^\1"),
    )
)
_MATH_MODE = (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"), ("$", "$"))
_BRACKETS = (("{", "}"), ("(", ")"))
_ASSIGNMENT = re.compile(r"^[A-Za-z](?:_?\w)?\s*=\s*(?=[^=])", re.ASCII)


def normalise(answer: str) -> str:
    """Rewrites LaTeX and typographic spellings of numbers to plain ones; what it does not know it leaves."""
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    return strip_wrapping(answer, (*_MATH_MODE, *_BRACKETS))


def strip_wrapping(answer: str, delimiters: Sequence[tuple[str, str]] = _MATH_MODE) -> str:
    """Takes off what stands around the whole answer: math mode, emphasis, a final period, a leading ``x =``."""
    previous = None
    while answer != previous:
        previous = answer
        answer = _unwrap(answer.strip(), delimiters)
        answer = answer[:-1] if answer.endswith(".") else answer
        answer = _ASSIGNMENT.sub("", answer)
    return answer


def _unwrap(text: str, delimiters: Sequence[tuple[str, str]]) -> str:
    for left, right in delimiters:
        inner = text[len(left) : -len(right)]
        if inner and text.startswith(left) and text.endswith(right) and _is_one_span(inner, left, right):
            return inner.strip()
    return text


def _is_one_span(inner: str, left: str, right: str) -> bool:
    """Whether delimiters inside pair up among themselves, so that the outer two belong together."""
    if left == right:
        return left not in inner
    if left == "(" and "," in inner:  # a pair, not a number in parentheses
        return False
    depth = 0
    for token in re.findall(f"{re.escape(left)}|{re.escape(right)}", inner):
        depth += 1 if token == left else -1
        if depth < 0:
            return False
    return depth == 0


def read_number(answer: str, *, letters_are_units: bool = True) -> frozenset[Fraction] | None:
    """Returns the readings of a normalised answer that is one plain number, or None where it is not one.

    ``letters_are_units`` reads the ``m`` of "18 m" as metres; without it a single letter is a variable.
    """
    match = _NUMBER.search(answer)
    if match is None or any(char.isnumeric() and not char.isascii() for char in answer):
        return None
    before, after = answer[: match.start()], answer[match.end() :]
    words_before, words_after = _words(before), _words(after)
    if not (_may_precede(before, match["sign"] or "") and _may_follow(after)):
        return None
    if not letters_are_units and any(word in _LETTER_UNITS for word in words_after):
        return None
    if any(word in _SCALES for word in words_before + words_after[1:]):
        return None
    value = _value(match)
    return None if value is None else frozenset({value, value * _SCALES.get("".join(words_after[:1]), 1)})


def _value(match: re.Match[str]) -> Fraction | None:
    sign, inner_sign = (match["sign"] or "").strip(), match["inner_sign"]
    if sign and inner_sign:
        return None
    try:
        if match["whole"]:
            part = Fraction(_decimal(match["num"]), _decimal(match["den"]))
            if part >= 1:  # "3 9/2" is not a mixed number
                return None
            value = _decimal(match["whole"]) + part
        elif match["top"]:
            value = _decimal(match["top"]) / _decimal(match["bottom"])
        else:
            value = _decimal(match["decimal"])
    except (ZeroDivisionError, OverflowError):
        return None
    return -value if "-" in (sign, inner_sign) else value


def _decimal(text: str) -> Fraction:
    """Reads ``1,000.50e3``. Raises OverflowError past the limits on digits and exponent."""
    mantissa, _, exponent = text.lower().replace(",", "").partition("e")
    if len(mantissa) > _MAX_DIGITS or abs(int(exponent or 0)) > _MAX_EXPONENT:
        raise OverflowError("a number too long to be an answer")
    return Fraction(mantissa.removesuffix(".")) * Fraction(10) ** int(exponent or 0)


def _may_precede(before: str, sign: str) -> bool:
    if not before.strip():
        return True
    if sign[1:] or _REFUSED_BEFORE.intersection(_words(before)):  # "Total - 18" is no negative number
        return False
    return before[-1] in " \t\n:(≈~=" and _is_prose(before.rstrip(" \t\n=≈~"))


def _may_follow(after: str) -> bool:
    if unit := re.match(r"[^\W\d_]+", after):
        return unit.group().lower() in _TOUCHING_UNITS and _is_prose(after)
    if after[:1] in ("/", "-"):  # "18/day", "18-inch"
        return after[1:2].isalpha() and _is_prose(after[1:])
    return _is_prose(after)


def _is_prose(text: str) -> bool:
    """Whether these are words that leave the value of the number beside them alone."""
    if not _PROSE.fullmatch(text):
        return False
    words = _words(text)
    if any(word in _REFUSED_WORDS for word in words):
        return False
    return all(_is_word(word, last=index == len(words) - 1) for index, word in enumerate(words))


def _is_word(word: str, last: bool) -> bool:
    return len(word) > 1 or word in _LETTER_UNITS or (word == "a" and not last) or not word.isascii()


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]
