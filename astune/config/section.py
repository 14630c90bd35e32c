"""What every section of a configuration has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FilePath = Annotated[Path, Field(strict=False)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are never silently converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)
