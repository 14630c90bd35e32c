"""What is noted along a run: findings against it, what it used, what happened. Only ever appended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from autorl_bench.store.database import insert_if_absent
from autorl_bench.store.records import Event, FlagRecord, MeterSample, Usage, as_record
from autorl_bench.store.tables import EventRow, FlagRow, MeterRow
from autorl_bench.types import Flag


@dataclass(frozen=True)
class Ledger:
    """Notes within one transaction that began at ``now``."""

    session: Session
    now: float

    def flag(self, run_id: str, flag: Flag) -> bool:
        """Adds a finding; whether it is new. A run is flagged once for each code, with the first evidence."""
        values = {"code": flag.code, "message": flag.message, "evidence": dict(flag.evidence)}
        return insert_if_absent(self.session, FlagRow, run_id=run_id, created=self.now, **values) is not None

    def flags(self, run_id: str) -> list[FlagRecord]:
        """Findings against a run, oldest first."""
        rows = self.session.scalars(select(FlagRow).where(FlagRow.run_id == run_id).order_by(FlagRow.id))
        return [FlagRecord(run_id, Flag(row.code, row.message, row.evidence), row.created) for row in rows]

    def flagged(self) -> dict[str, int]:
        """Number of findings of each run that has any."""
        counts = select(FlagRow.run_id, func.count()).group_by(FlagRow.run_id)
        return dict(self.session.execute(counts).tuples().all())

    def measure(self, run_id: str, usage: Usage) -> None:
        """Adds a measurement of what a run has used since its start."""
        self.session.add(MeterRow(run_id=run_id, created=self.now, **asdict(usage)))
        self.session.flush()

    def samples(self, run_id: str) -> list[MeterSample]:
        """Measurements of a run, oldest first."""
        rows = self.session.scalars(select(MeterRow).where(MeterRow.run_id == run_id).order_by(MeterRow.id))
        return [MeterSample(run_id, as_record(Usage, row), row.created) for row in rows]

    def count_samples(self, run_id: str) -> int:
        """Number of measurements of a run."""
        query = select(func.count()).select_from(MeterRow).where(MeterRow.run_id == run_id)
        return self.session.scalars(query).one()

    def last_sample(self, run_id: str) -> MeterSample | None:
        """What a run had used when it was last measured."""
        query = select(MeterRow).where(MeterRow.run_id == run_id).order_by(MeterRow.id.desc()).limit(1)
        row = self.session.scalars(query).first()
        return None if row is None else MeterSample(run_id, as_record(Usage, row), row.created)

    def note(
        self, what: str, *, actor: str, run_id: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Adds an event: ``what`` is a stable name (``run.state``), ``detail`` its values."""
        row = EventRow(run_id=run_id, actor=actor, what=what, detail=dict(detail or {}), created=self.now)
        self.session.add(row)
        self.session.flush()

    def events(self, run_id: str | None = None, what: str | None = None) -> list[Event]:
        """Events, oldest first."""
        query = select(EventRow).order_by(EventRow.id)
        query = query if run_id is None else query.where(EventRow.run_id == run_id)
        query = query if what is None else query.where(EventRow.what == what)
        return [as_record(Event, row) for row in self.session.scalars(query)]
