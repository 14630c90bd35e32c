"""How much of a submission is looked at: bounds on everything that an agent controls."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from astune.config.section import Section

Count = Annotated[int, Field(ge=1)]


class Limits(Section):
    """Bounds on a submitted folder. Sizes in bytes.

    ``total_bytes`` of None means: what the base model's tensors take as float32 (twice the embedding, which
    some programs save tied and untied), plus the headers.
    """

    entries: Count = 2_000
    files: Count = 200
    total_bytes: Count | None = None
    json_bytes: Count = 4 * 2**20
    header_bytes: Count = 4 * 2**20
    ignored_config_keys: tuple[str, ...] = ()
