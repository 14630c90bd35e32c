"""What the grader does for each kind of job. A step that is done is in the store: a second attempt goes on from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from astune.files import atomic_write
from autorl_bench.bench import DEV, FINAL, REPLAY, Bench, SubmissionInvalid, findings_of
from autorl_bench.grader.measure import Measured, Measuring, model_digest
from autorl_bench.jobs import JobLimits, LocalJobRunner
from autorl_bench.policy import InvalidModel
from autorl_bench.replay import replay
from autorl_bench.store import QueryState, RunState, SubmissionState, Transaction
from autorl_bench.store.records import EvaluationRecord, Lease, Run, Submission
from autorl_bench.store.states import Role
from autorl_bench.submission import scan_workspace, twin_gap
from autorl_bench.types import Flag, Reason

#: Evaluated weights and replayed code differ by more than the items explain.
REPLAY_DIFFERS = "replay_differs"
_ACTOR = "grader"


def do(bench: Bench, lease: Lease) -> None:
    """Does a leased job and ends it, together with what it decides.

    Raises:
        LeaseLost: it took too long; nothing was written.
        AstuneError: it failed for a reason of ours, and can be tried again.
    """
    duties: dict[str, Callable[[Bench, Lease], None]] = {DEV: _dev, FINAL: _final, REPLAY: _replay}
    duties[lease.job.kind](bench, lease)


# --- dev ----------------------------------------------------------------------------------------------------------


def _dev(bench: Bench, lease: Lease) -> None:
    """A score on dev, beside the base model's."""
    with bench.store.read() as tx:
        run = tx.runs.get(lease.job.run_id)
        query = tx.submissions.dev_query(lease.job.payload["query"])
    measuring = Measuring.of(bench, run)
    try:
        _dev_baseline(measuring)
        measured = measuring.measure(Path(lease.job.payload["folder"]), "dev", f"dev-{query.id}")
    except InvalidModel as error:
        with bench.store.write() as tx:
            tx.submissions.refuse_dev(query.id, QueryState.INVALID, (error.reason,))
            tx.queue.complete(lease, {"invalid": error.reason.code})
        return
    with bench.store.write() as tx:
        tx.results.answer_dev(query.id, measured.evaluation, n_items=measured.n_items, seconds=measured.seconds)
        tx.queue.complete(lease, {"n_correct": measured.evaluation.n_correct})


def _dev_baseline(measuring: Measuring) -> None:
    """The base model on dev: the same for all runs of a scenario, so that it is measured for the first alone."""
    bench, run = measuring.bench, measuring.run
    base = bench.base_model(measuring.scenario)
    digest = model_digest(base)
    with bench.store.read() as tx:
        if tx.results.of_run(run.id, Role.DEV_BASELINE):
            return
        earlier = _dev_baseline_of_another(tx, run, digest)
    if earlier is not None:
        evaluation = earlier.evaluation
        measured = Measured(evaluation, len(evaluation.results), earlier.seconds)
    else:
        measured = measuring.measure(base, "dev", "dev-baseline")
    _record(measuring, Role.DEV_BASELINE, measured, digest)


def _dev_baseline_of_another(tx: Transaction, run: Run, digest: str) -> EvaluationRecord | None:
    for other in reversed(tx.runs.all(scenario=run.scenario)):
        if other.scenario_digest == run.scenario_digest:
            for found in tx.results.of_run(other.id, Role.DEV_BASELINE):
                if found.model_digest == digest:
                    return found
    return None


# --- final --------------------------------------------------------------------------------------------------------


def _final(bench: Bench, lease: Lease) -> None:
    """Opens the test: baseline, twin, claimed weights where there are some, integrity checks, and the score."""
    with bench.store.write() as tx:
        run = tx.runs.get(lease.job.run_id)
        submission = tx.submissions.get(lease.job.payload["submission"])
        if run.state == RunState.SUBMITTED:
            run = tx.runs.advance(run.id, RunState.EVALUATING, actor=_ACTOR)
    measuring = Measuring.of(bench, run)
    base = bench.base_model(measuring.scenario)
    _once(measuring, Role.BASELINE, base, model_digest(base), None)
    model = Path(submission.path)
    try:
        final = measuring.measure(model, "test", "final")
    except InvalidModel as error:
        _refuse(bench, lease, submission, error.reason)
        return
    flags = list(_flags_of_weights(submission))
    if measuring.scenario.n.twin:
        twin = _once(measuring, Role.TWIN, model, submission.digest, submission.id)
        flags += [finding.flag for finding in twin_gap(final.evaluation, twin.evaluation).findings.all]
    flags += _claimed(measuring, submission, final)
    flags += _overlap(measuring, submission)
    with bench.store.write() as tx:
        for flag in flags:
            tx.ledger.flag(run.id, flag)
        tx.results.score_run(
            submission.id,
            final.evaluation,
            n_items=final.n_items,
            model_digest=submission.digest,
            seconds=final.seconds,
            actor=_ACTOR,
        )
        tx.queue.complete(lease, {"n_correct": final.evaluation.n_correct})


def _once(measuring: Measuring, role: Role, model: Path, digest: str, submission_id: int | None) -> EvaluationRecord:
    """An evaluation on test or twin that is made once a run, however often the job is started."""
    with measuring.bench.store.read() as tx:
        found = tx.results.of_run(measuring.run.id, role)
    if found:
        return found[0]
    measured = measuring.measure(model, "twin" if role == Role.TWIN else "test", role.value)
    return _record(measuring, role, measured, digest, submission_id)


def _record(
    measuring: Measuring, role: Role, measured: Measured, digest: str, submission_id: int | None = None
) -> EvaluationRecord:
    with measuring.bench.store.write() as tx:
        return tx.results.record(
            measuring.run.id,
            role,
            measured.evaluation,
            n_items=measured.n_items,
            model_digest=digest,
            seconds=measured.seconds,
            submission_id=submission_id,
        )


def _refuse(bench: Bench, lease: Lease, submission: Submission, reason: Reason) -> None:
    """The final submission cannot be evaluated for a fault of its own: the run is invalid."""
    with bench.store.write() as tx:
        tx.submissions.refuse(submission.id, SubmissionState.INVALID, (reason,))
        tx.runs.advance(submission.run_id, RunState.INVALID, actor=_ACTOR, reasons=(reason,))
        tx.queue.complete(lease, {"invalid": reason.code})


def _flags_of_weights(submission: Submission) -> list[Flag]:
    return [Flag(**flag) for flag in submission.report.get("findings", ())]


def _overlap(measuring: Measuring, submission: Submission) -> list[Flag]:
    """What of the hidden items stands in the run's workspace. The agent's processes are gone by now."""
    bench, run = measuring.bench, measuring.run
    twin = measuring.items("twin") if measuring.scenario.n.twin else ()
    public = (*measuring.items("train"), *measuring.items("dev"))
    workspace = bench.home.workspace(run.id)
    overlap = scan_workspace(workspace, measuring.items("test"), twin, public, canaries=(bench.home.key(),))
    report = {
        "test_exact": len(overlap.test.exact),
        "test_similar": len(overlap.test.similar),
        "test_items": overlap.test.items,
        "twin_exact": len(overlap.twin.exact),
        "twin_similar": len(overlap.twin.similar),
        "twin_items": overlap.twin.items,
        "canaries": overlap.canaries,
        "places": list(overlap.places),
        "coverage": asdict(overlap.coverage),
    }
    with bench.store.write() as tx:
        tx.submissions.report(submission.id, "contamination", report)
    return [finding.flag for finding in overlap.findings.all]


def write_feedback(bench: Bench, run_id: str, baseline: float, score: float) -> None:
    """``results/{run}/feedback.json``, two numbers in percent; atomic."""
    text = json.dumps({"baseline": round(baseline, 2), "score": round(score, 2)})
    atomic_write(bench.home.feedback(run_id), f"{text}\n")


# --- replay -------------------------------------------------------------------------------------------------------


def _replay(bench: Bench, lease: Lease) -> None:
    """Trains with the run's code from the base model, in a fresh place; what comes out is the final submission."""
    with bench.store.read() as tx:
        run = tx.runs.get(lease.job.run_id)
    scenario = bench.scenario_of(run)
    folder = bench.home.log(run.id) / f"replay-{lease.job.attempts}"
    replayed = asyncio.run(
        replay(
            bench.home.workspace(run.id) / "code",
            folder,
            base_model=bench.base_model(scenario),
            train_data=bench.home.root / scenario.train_data_path,
            seed=run.seed,
            limits=JobLimits(
                wall_seconds=scenario.budget.wall_seconds,
                cpu_seconds=scenario.budget.cpu_seconds,
                memory=scenario.budget.memory_bytes,
                disk=scenario.budget.disk_bytes,
            ),
            runner=LocalJobRunner(),
            hidden=(bench.home.vault,),
        )
    )
    if replayed.reason is not None or replayed.model is None:
        reason = replayed.reason or Reason("no_model", "the replayed code left no model")
        _end_invalid(bench, lease, run, reason)
        return
    try:
        _submit_replayed(bench, lease, run, replayed.model)
    except SubmissionInvalid as refused:
        _end_invalid(bench, lease, run, refused.reason)


def _submit_replayed(bench: Bench, lease: Lease, run: Run, model: Path) -> None:
    submission, _ = bench.submit(run, str(model), workspace=model.parent, actor=_ACTOR)
    claimed = bench.claimed_weights(run)
    with bench.store.write() as tx:
        if claimed is not None:
            content = {"folder": str(claimed.folder), "digest": claimed.sha256, "findings": findings_of(claimed)}
            tx.submissions.report(submission.id, "claimed", content)
        tx.submissions.declare_final(submission.id, actor=_ACTOR)
        tx.queue.enqueue(FINAL, run.id, {"submission": submission.id}, key="final")
        tx.queue.complete(lease, {"submission": submission.number})


def _end_invalid(bench: Bench, lease: Lease, run: Run, reason: Reason) -> None:
    with bench.store.write() as tx:
        tx.runs.advance(run.id, RunState.INVALID, actor=_ACTOR, reasons=(reason,))
        tx.queue.complete(lease, {"invalid": reason.code})


def _claimed(measuring: Measuring, submission: Submission, final: Measured) -> list[Flag]:
    """Weights that came along with replayed code are evaluated, too: a flag where the replay does not bear them out."""
    claimed = submission.report.get("claimed")
    if claimed is None:
        return []
    try:
        record = _once(measuring, Role.CLAIMED, Path(claimed["folder"]), claimed["digest"], submission.id)
    except InvalidModel as error:
        return [Flag(REPLAY_DIFFERS, f"The weights that came along cannot be evaluated: {error}")]
    low, high = record.evaluation.interval
    replayed = final.evaluation.accuracy
    if low <= replayed <= high:
        return []
    message = (
        f"The code, replayed, gives {replayed:.1f} %; the weights that came along give "
        f"{record.evaluation.accuracy:.1f} % (95 %: {low:.1f} to {high:.1f})."
    )
    evidence = {"replayed": replayed, "claimed": record.evaluation.accuracy, "low": low, "high": high}
    return [Flag(REPLAY_DIFFERS, message, evidence)]
