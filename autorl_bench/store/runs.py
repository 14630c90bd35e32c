"""Scenarios, agents and runs: made, proven by a token, moved from state to state."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from autorl_bench.store.columns import canonical_json
from autorl_bench.store.database import insert_if_absent
from autorl_bench.store.errors import Conflict, RecordError, TransitionError, UnknownRecord
from autorl_bench.store.ledger import Ledger
from autorl_bench.store.records import AgentVersion, Run, ScenarioSnapshot, as_record, reasons_json, reasons_of
from autorl_bench.store.states import RunState, Track, check_run_transition
from autorl_bench.store.tables import AgentRow, RunRow, ScenarioRow
from autorl_bench.store.tokens import RUN_ID, matches, new_token, run_of, token_hash
from autorl_bench.types import Reason

_NEED_REASONS = {RunState.INVALID, RunState.INTERRUPTED, RunState.INFRASTRUCTURE}


@dataclass(frozen=True)
class Runs:
    """Runs within one transaction that began at ``now``."""

    session: Session
    now: float

    def snapshot_scenario(self, name: str, content: Mapping[str, Any]) -> ScenarioSnapshot:
        """Keeps a scenario as it is now; the same name and content give the same record."""
        digest = _digest(name, content)
        values = {"digest": digest, "name": name, "content": dict(content), "created": self.now}
        insert_if_absent(self.session, ScenarioRow, **values)
        return as_record(ScenarioSnapshot, self.session.get_one(ScenarioRow, digest))

    def register_agent(self, name: str, config: Mapping[str, Any]) -> AgentVersion:
        """Keeps an agent's configuration as it is now; the same name and configuration give the same record."""
        digest = _digest(name, config)
        values = {"digest": digest, "name": name, "config": dict(config), "created": self.now}
        insert_if_absent(self.session, AgentRow, **values)
        return as_record(AgentVersion, self.session.get_one(AgentRow, digest))

    def scenario(self, digest: str) -> ScenarioSnapshot:
        """The scenario that a run was made with.

        Raises:
            UnknownRecord: no such snapshot.
        """
        row = self.session.get(ScenarioRow, digest)
        if row is None:
            raise UnknownRecord(f"no scenario with digest {digest!r}")
        return as_record(ScenarioSnapshot, row)

    def agent(self, digest: str) -> AgentVersion:
        """The agent that a run was made with.

        Raises:
            UnknownRecord: no such agent.
        """
        row = self.session.get(AgentRow, digest)
        if row is None:
            raise UnknownRecord(f"no agent with digest {digest!r}")
        return as_record(AgentVersion, row)

    def create(
        self,
        scenario: ScenarioSnapshot,
        agent: AgentVersion,
        *,
        track: Track,
        seed: int,
        budget: Mapping[str, Any],
        isolation: str,
        run_id: str | None = None,
        draw: str | None = None,
    ) -> tuple[Run, str]:
        """A new run and its token, which is not kept and cannot be read again.

        ``run_id`` names folders; by default ``{scenario}_{date}-{time}-{4 hex digits}``. ``draw`` is by default the
        run's own.

        Raises:
            Conflict: ``run_id`` is taken.
            RecordError: ``run_id`` is not of letters, digits and ``_.-``.
        """
        chosen = run_id if run_id is not None else self._free_id(scenario.name)
        if not RUN_ID.fullmatch(chosen):
            raise RecordError(f"run id {chosen!r}: letters, digits, '_', '.' and '-' only, at most 120 characters")
        token = new_token(chosen)
        values = {"track": track, "seed": seed, "budget": dict(budget), "isolation": isolation, "reasons": []}
        values["draw"] = chosen if draw is None else draw
        digests = {"scenario_digest": scenario.digest, "agent_digest": agent.digest, "token_hash": token_hash(token)}
        state = {"state": RunState.CREATED, "created": self.now}
        if insert_if_absent(self.session, RunRow, id=chosen, **values, **digests, **state) is None:
            raise Conflict(f"run {chosen} exists already; choose another id")
        return self.get(chosen), token

    def _free_id(self, scenario: str) -> str:
        while True:
            stamp = datetime.fromtimestamp(self.now, UTC).strftime("%Y%m%d-%H%M%S")
            chosen = f"{scenario}_{stamp}-{secrets.token_hex(2)}"
            if self.session.get(RunRow, chosen) is None:
                return chosen

    def get(self, run_id: str) -> Run:
        """A run as it is.

        Raises:
            UnknownRecord: no such run.
        """
        found = self._select(RunRow.id == run_id)
        if not found:
            raise UnknownRecord(f"no run {run_id!r}")
        return found[0]

    def all(
        self, *, scenario: str | None = None, agent: str | None = None, states: Sequence[RunState] = ()
    ) -> list[Run]:
        """Runs, oldest first, of one scenario, one agent, some states."""
        conditions: list[Any] = [] if scenario is None else [ScenarioRow.name == scenario]
        conditions += [] if agent is None else [AgentRow.name == agent]
        conditions += [RunRow.state.in_(states)] if states else []
        return self._select(*conditions)

    def _select(self, *conditions: Any) -> list[Run]:
        query = select(RunRow, ScenarioRow.name, AgentRow.name).join(ScenarioRow).join(AgentRow).where(*conditions)
        rows = self.session.execute(query.order_by(RunRow.created, RunRow.id)).all()
        more = ({"scenario": scenario, "agent": agent} for _, scenario, agent in rows)
        return [
            as_record(Run, row, reasons=reasons_of(row.reasons), **names)
            for (row, *_), names in zip(rows, more, strict=True)
        ]

    def authenticate(self, token: str) -> Run | None:
        """The run that ``token`` belongs to; None for a token that is none, was revoked, or is another run's."""
        claimed = run_of(token)
        row = None if claimed is None else self.session.get(RunRow, claimed)
        if not matches(token, None if row is None else row.token_hash) or row is None:
            return None
        return self.get(row.id)

    def renew_token(self, run_id: str) -> str:
        """A new token for a run that is resumed; the old one is worthless from now on.

        Raises:
            UnknownRecord: no such run.
        """
        token = new_token(run_id)
        lock_run(self.session, run_id).token_hash = token_hash(token)
        return token

    def revoke_token(self, run_id: str) -> None:
        """Makes a run's token worthless.

        Raises:
            UnknownRecord: no such run.
        """
        lock_run(self.session, run_id).token_hash = None

    def advance(self, run_id: str, to: RunState, *, actor: str, reasons: tuple[Reason, ...] = ()) -> Run:
        """Moves a run to its next state; an end without a score needs ``reasons``.

        Raises:
            TransitionError: ``to`` cannot follow, lacks reasons, or is ``scored``, which comes with an evaluation alone
                (:meth:`autorl_bench.store.results.Results.score_run`).
            UnknownRecord: no such run.
        """
        if to == RunState.SCORED:
            raise TransitionError(f"run {run_id}: only an evaluation of its final submission makes it scored")
        if (to in _NEED_REASONS) != bool(reasons):
            raise TransitionError(f"run {run_id}: {to} {'needs a reason' if to in _NEED_REASONS else 'has no reasons'}")
        move(self.session, lock_run(self.session, run_id), to, self.now, actor=actor, reasons=reasons)
        return self.get(run_id)


def lock_run(session: Session, run_id: str) -> RunRow:
    """A run's row, which no other transaction changes until this one ends.

    Raises:
        UnknownRecord: no such run.
    """
    query = select(RunRow).where(RunRow.id == run_id).with_for_update(key_share=True)
    row = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise UnknownRecord(f"no run {run_id!r}")
    return row


def move(
    session: Session,
    row: RunRow,
    to: RunState,
    now: float,
    *,
    actor: str,
    reasons: tuple[Reason, ...] = (),
    evaluation_id: int | None = None,
) -> None:
    """Changes a locked run's state and notes it; every change of state goes through here.

    ``evaluation_id`` comes with ``scored`` and nothing else: the database refuses one without the other.

    Raises:
        TransitionError: ``to`` cannot follow the run's state.
    """
    check_run_transition(row.id, row.state, to)
    before, row.state, row.reasons, row.final_evaluation_id = row.state, to, reasons_json(reasons), evaluation_id
    if to == RunState.RUNNING:
        row.started = now
    if to.is_end:
        row.ended = now
    detail = {"from": before, "to": to, "reasons": row.reasons}
    Ledger(session, now).note("run.state", actor=actor, run_id=row.id, detail=detail)


def _digest(name: str, content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json([name, dict(content)]).encode()).hexdigest()
