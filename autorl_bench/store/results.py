"""Evaluations: written whole, with every item, in the transaction that gives a score; read by counting items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from autorl_bench.store.database import insert_if_absent
from autorl_bench.store.errors import Conflict, RecordError, TransitionError, UnknownRecord
from autorl_bench.store.records import DevQuery, EvaluationRecord, Run, as_record
from autorl_bench.store.runs import Runs, lock_run, move
from autorl_bench.store.states import QueryState, Role, RunState, SubmissionState
from autorl_bench.store.submissions import Submissions, query_row, submission_row
from autorl_bench.store.tables import EvaluationRow, ItemRow, RunRow
from autorl_bench.types import Evaluation, ItemResult, Split

#: The split that each role is measured on.
SPLIT_OF: dict[Role, Split] = {
    Role.BASELINE: "test",
    Role.DEV_BASELINE: "dev",
    Role.DEV: "dev",
    Role.FINAL: "test",
    Role.TWIN: "twin",
    Role.CLAIMED: "test",
}


@dataclass(frozen=True)
class Results:
    """Evaluations within one transaction that began at ``now``."""

    session: Session
    now: float

    def record(
        self,
        run_id: str,
        role: Role,
        evaluation: Evaluation,
        *,
        n_items: int,
        model_digest: str,
        seconds: float,
        submission_id: int | None = None,
    ) -> EvaluationRecord:
        """Writes an evaluation that decides no state: a baseline, a twin, claimed weights.

        ``n_items`` is the size of the split: fewer results, or one item twice, are no evaluation of it.

        Raises:
            Conflict: the run has an evaluation of this role, or it is one that comes with a decision
                (:meth:`score_run`, :meth:`answer_dev`).
            RecordError: not ``n_items`` results, or an item twice.
            UnknownRecord: no such run or submission.
        """
        if role in (Role.FINAL, Role.DEV):
            raise Conflict(f"a {role} evaluation is recorded together with what it decides")
        lock_run(self.session, run_id)
        if submission_id is not None and Submissions(self.session, self.now).get(submission_id).run_id != run_id:
            raise Conflict(f"submission {submission_id} is not of run {run_id}")
        return self._write(run_id, role, evaluation, n_items, model_digest, seconds, submission_id)

    def score_run(
        self, submission_id: int, evaluation: Evaluation, *, n_items: int, model_digest: str, seconds: float, actor: str
    ) -> Run:
        """Writes the evaluation of a run's final submission and makes both ``scored``.

        Raises:
            TransitionError: the submission is not the final one or was refused, or the run is not ``evaluating``.
            RecordError: not ``n_items`` results, or an item twice.
            UnknownRecord: no such submission.
        """
        submission = submission_row(self.session, submission_id)
        run = lock_run(self.session, submission.run_id)
        if not submission.final or submission.state != SubmissionState.RECEIVED:
            kind = "the final submission" if submission.final else "not the final submission"
            raise TransitionError(
                f"submission {submission_id} is {kind} of run {run.id} and {submission.state}: no score"
            )
        role, digest = Role.FINAL, model_digest
        written = self._write(run.id, role, evaluation, n_items, digest, seconds, submission_id)
        move(self.session, run, RunState.SCORED, self.now, actor=actor, evaluation_id=written.id)
        submission.state = SubmissionState.SCORED
        self.session.flush()
        return Runs(self.session, self.now).get(run.id)

    def answer_dev(self, query_id: int, evaluation: Evaluation, *, n_items: int, seconds: float) -> DevQuery:
        """Writes the evaluation that a dev query asked for and answers it.

        Raises:
            TransitionError: the query has ended already.
            RecordError: not ``n_items`` results, or an item twice.
            UnknownRecord: no such query.
        """
        query = query_row(self.session, query_id)
        if query.state != QueryState.OPEN:
            raise TransitionError(f"dev query {query_id} of run {query.run_id} is {query.state} already")
        written = self._write(query.run_id, Role.DEV, evaluation, n_items, query.model_digest, seconds, None)
        query.state, query.evaluation_id = QueryState.ANSWERED, written.id
        self.session.flush()
        return Submissions(self.session, self.now).dev_query(query_id)

    def get(self, evaluation_id: int) -> EvaluationRecord:
        """An evaluation with its items.

        Raises:
            UnknownRecord: no such evaluation.
        """
        row = self.session.get(EvaluationRow, evaluation_id)
        if row is None:
            raise UnknownRecord(f"no evaluation {evaluation_id}")
        return self._read(row)

    def of_run(self, run_id: str, role: Role | None = None) -> list[EvaluationRecord]:
        """A run's evaluations in order."""
        query = select(EvaluationRow).where(EvaluationRow.run_id == run_id).order_by(EvaluationRow.id)
        query = query if role is None else query.where(EvaluationRow.role == role)
        return [self._read(row) for row in self.session.scalars(query).all()]

    def baseline(self, run_id: str) -> EvaluationRecord | None:
        """The base model's evaluation on a run's test."""
        found = self.of_run(run_id, Role.BASELINE)
        return found[0] if found else None

    def score(self, run_id: str) -> EvaluationRecord | None:
        """The evaluation that a run's score is counted from; None for a run without a score.

        Raises:
            UnknownRecord: no such run.
        """
        row = self.session.get(RunRow, run_id)
        if row is None:
            raise UnknownRecord(f"no run {run_id!r}")
        return None if row.final_evaluation_id is None else self.get(row.final_evaluation_id)

    def _write(
        self,
        run_id: str,
        role: Role,
        evaluation: Evaluation,
        n_items: int,
        model_digest: str,
        seconds: float,
        submission_id: int | None,
    ) -> EvaluationRecord:
        results = evaluation.results
        different = len({result.item_id for result in results})
        if not len(results) == different == n_items:
            raise RecordError(
                f"run {run_id}, {role}: {len(results)} results of {different} items for a split of {n_items}; "
                "a part of a split is no evaluation"
            )
        log_path = None if evaluation.log_path is None else str(evaluation.log_path)
        values = {"role": role, "split": SPLIT_OF[role], "model_digest": model_digest, "log_path": log_path}
        more = {"submission_id": submission_id, "seconds": seconds, "created": self.now}
        evaluation_id = insert_if_absent(self.session, EvaluationRow, run_id=run_id, **values, **more)
        if evaluation_id is None:
            raise Conflict(f"run {run_id} has its {role} evaluation already; it is made once")
        rows = [_item_values(evaluation_id, position, result) for position, result in enumerate(results)]
        self.session.execute(insert(ItemRow), rows)
        return self.get(evaluation_id)

    def _read(self, row: EvaluationRow) -> EvaluationRecord:
        items = self.session.scalars(select(ItemRow).where(ItemRow.evaluation_id == row.id).order_by(ItemRow.position))
        log_path = None if row.log_path is None else Path(row.log_path)
        evaluation = Evaluation(tuple(as_record(ItemResult, item) for item in items), log_path)
        return as_record(EvaluationRecord, row, evaluation=evaluation)


def _item_values(evaluation_id: int, position: int, result: ItemResult) -> dict[str, object]:
    return {
        "evaluation_id": evaluation_id,
        "position": position,
        "item_id": result.item_id,
        "correct": result.correct,
        "completion": result.completion,
        "tokens": result.tokens,
        "truncated": result.truncated,
    }
