"""Tables of results, and how sure a mean is."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Table(NamedTuple):
    """What one experiment found; cells are text, rounded to what their interval allows."""

    name: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table as README.md shows it."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

    def columns_and_rows(self) -> list[list[str]]:
        """What results.json keeps: the columns' names, then the rows."""
        return [self.columns, *self.rows]


def mean(values_S: Tensor, digits: int = 2) -> str:
    """The mean over S seeds with its 95 % interval, 1.96 standard errors to each side."""
    values_S = values_S.double()
    half = 1.96 * float(values_S.std()) / math.sqrt(len(values_S))
    return f"{fixed(float(values_S.mean()), digits)} ± {half:.{digits}f}"


def percent(events_S: Tensor) -> str:
    """How often it happened among S seeds, with its 95 % interval (normal approximation; S is in the thousands)."""
    share = float(events_S.double().mean())
    half = 1.96 * math.sqrt(share * (1 - share) / len(events_S))
    return f"{100 * share:.1f} ± {100 * half:.1f} %"


def fixed(value: float, digits: int = 2) -> str:
    """``digits`` decimals, a true minus sign, and no negative zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
