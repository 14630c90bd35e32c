"""An agent's own account: hypotheses and the experiments that tried them. Shown on its page, trusted for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from autorl_bench.store.errors import Conflict, TransitionError, UnknownRecord
from autorl_bench.store.records import Experiment, Hypothesis, as_record
from autorl_bench.store.runs import lock_run
from autorl_bench.store.states import ExperimentState, RunState
from autorl_bench.store.tables import ExperimentRow, HypothesisRow


@dataclass(frozen=True)
class Notebook:
    """Hypotheses and experiments within one transaction that began at ``now``."""

    session: Session
    now: float

    def propose(self, run_id: str, statement: str, reason: str) -> Hypothesis:
        """Adds a hypothesis.

        Raises:
            TransitionError: the run is not running.
            UnknownRecord: no such run.
        """
        self._running(run_id)
        number = self._next_number(HypothesisRow, run_id)
        row = HypothesisRow(run_id=run_id, number=number, statement=statement, reason=reason, created=self.now)
        self.session.add(row)
        self.session.flush()
        return as_record(Hypothesis, row)

    def begin(self, hypothesis_id: int, recipe: Mapping[str, Any], *, code_path: str | None = None) -> Experiment:
        """Adds an experiment on a hypothesis.

        Raises:
            TransitionError: the run is not running.
            UnknownRecord: no such hypothesis.
        """
        hypothesis = self.session.get(HypothesisRow, hypothesis_id)
        if hypothesis is None:
            raise UnknownRecord(f"no hypothesis {hypothesis_id}")
        run_id = hypothesis.run_id
        self._running(run_id)
        row = ExperimentRow(run_id=run_id, number=self._next_number(ExperimentRow, run_id), recipe=dict(recipe))
        row.hypothesis_id, row.code_path, row.feedback = hypothesis_id, code_path, ""
        row.state, row.created = ExperimentState.RUNNING, self.now
        self.session.add(row)
        self.session.flush()
        return as_record(Experiment, row)

    def end(
        self,
        experiment_id: int,
        state: ExperimentState,
        *,
        feedback: str,
        claimed_score: float | None = None,
        log_path: str | None = None,
    ) -> Experiment:
        """Notes how an experiment went. A ``claimed_score`` is the agent's word alone.

        Raises:
            Conflict: it has ended already, or ``state`` is no end.
            UnknownRecord: no such experiment.
        """
        row = self.session.get(ExperimentRow, experiment_id, with_for_update=True, populate_existing=True)
        if row is None:
            raise UnknownRecord(f"no experiment {experiment_id}")
        if row.state != ExperimentState.RUNNING or state == ExperimentState.RUNNING:
            raise Conflict(f"experiment {row.number} of run {row.run_id} is {row.state}; it cannot become {state}")
        row.state, row.feedback, row.ended = state, feedback, self.now
        row.claimed_score, row.log_path = claimed_score, log_path
        return as_record(Experiment, row)

    def experiment(self, experiment_id: int) -> Experiment:
        """An experiment as it is.

        Raises:
            UnknownRecord: no such experiment.
        """
        row = self.session.get(ExperimentRow, experiment_id)
        if row is None:
            raise UnknownRecord(f"no experiment {experiment_id}")
        return as_record(Experiment, row)

    def hypotheses(self, run_id: str) -> list[Hypothesis]:
        """A run's hypotheses in order."""
        query = select(HypothesisRow).where(HypothesisRow.run_id == run_id).order_by(HypothesisRow.number)
        return [as_record(Hypothesis, row) for row in self.session.scalars(query)]

    def experiments(self, run_id: str) -> list[Experiment]:
        """A run's experiments in order."""
        query = select(ExperimentRow).where(ExperimentRow.run_id == run_id).order_by(ExperimentRow.number)
        return [as_record(Experiment, row) for row in self.session.scalars(query)]

    def counts(self, run_id: str) -> tuple[int, int]:
        """Number of a run's hypotheses and of its experiments, without reading them."""
        return self._count(HypothesisRow, run_id), self._count(ExperimentRow, run_id)

    def hypothesis_id(self, run_id: str, number: int) -> int | None:
        """The id of a run's hypothesis; None where it has none of this number."""
        return self._id(HypothesisRow, run_id, number)

    def experiment_id(self, run_id: str, number: int) -> int | None:
        """The id of a run's experiment; None where it has none of this number."""
        return self._id(ExperimentRow, run_id, number)

    def _id(self, table: type[HypothesisRow] | type[ExperimentRow], run_id: str, number: int) -> int | None:
        return self.session.scalars(
            select(table.id).where(table.run_id == run_id, table.number == number)
        ).one_or_none()

    def _running(self, run_id: str) -> None:
        run = lock_run(self.session, run_id)  # locked, so that two requests don't take the same number
        if run.state != RunState.RUNNING:
            raise TransitionError(f"run {run_id} is {run.state}; only a running one writes its notebook")

    def _next_number(self, table: type[HypothesisRow] | type[ExperimentRow], run_id: str) -> int:
        return self._count(table, run_id) + 1

    def _count(self, table: type[HypothesisRow] | type[ExperimentRow], run_id: str) -> int:
        return self.session.scalars(select(func.count()).select_from(table).where(table.run_id == run_id)).one()
