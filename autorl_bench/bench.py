"""The rules of a run: what may be asked when, what it costs, and what follows. No HTTP, no processes.

The server speaks for agents, the ``run`` command for the operator; both go through here, so that a rule stands once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from astune.models.bundled import BUNDLED
from autorl_bench.home import Home
from autorl_bench.scenarios import Scenario, ScenarioRegistry
from autorl_bench.store import (
    Conflict,
    ExperimentState,
    LimitReached,
    QueryState,
    RunState,
    Store,
    Track,
    Transaction,
)
from autorl_bench.store.records import DevQuery, Experiment, Hypothesis, Run, Submission, Usage
from autorl_bench.submission import Limits, Prepared, Refused, prepare
from autorl_bench.types import Reason

#: Kinds of jobs in the queue.
DEV, FINAL, REPLAY = "dev", "final", "replay"
#: How often a run may have a folder looked at beyond twice what its budget needs: each look costs time and disk.
SPARE_LOOKS = 100
#: Hypotheses, and experiments, that a run's notebook holds.
MAX_NOTES = 1000
#: Reports of tokens that a run may make.
MAX_REPORTS = 10_000
#: Who hands a model in: of an agent's own requests each is counted, and none comes after its time.
AGENT = "agent"
_AGENT_STARTED, _AGENT_ENDED, _LOOKED = "agent.started", "agent.ended", "submission.looked_at"


class SubmissionInvalid(Conflict):
    """A model folder that cannot be evaluated for a fault of its own."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a run's budget."""

    seconds: float
    dev_queries: int
    submissions: int


@dataclass(frozen=True)
class Bench:
    """The benchmark over one store and one folder.

    ``limits`` bound what is taken in of a submission.
    """

    home: Home
    store: Store
    scenarios: ScenarioRegistry
    limits: Limits = field(default_factory=Limits)

    # --- runs -----------------------------------------------------------------------------------------------------

    def create(
        self,
        scenario: Scenario,
        agent: str,
        agent_config: Mapping[str, Any],
        *,
        track: Track = Track.WEIGHTS,
        seed: int = 0,
        isolation: str,
        draw: str | None = None,
    ) -> tuple[Run, str]:
        """A new run with its folders, and its token. ``draw``: see :meth:`Home.test_seed`."""
        with self.store.write() as tx:
            snapshot = tx.runs.snapshot_scenario(scenario.id, scenario.model_dump(mode="json"))
            version = tx.runs.register_agent(agent, agent_config)
            budget = scenario.budget.model_dump(mode="json")
            run, token = tx.runs.create(
                snapshot, version, track=track, seed=seed, budget=budget, isolation=isolation, draw=draw
            )
        for folder in ("code", "output"):
            (self.home.workspace(run.id) / folder).mkdir(parents=True, exist_ok=True)
        return run, token

    def scenario_of(self, run: Run) -> Scenario:
        """The scenario as it was when the run was made."""
        with self.store.read() as tx:
            return Scenario.model_validate(dict(tx.runs.scenario(run.scenario_digest).content))

    def agent_started(self, run_id: str, attempt: int, level: str) -> None:
        """Notes that an agent's process is about to start; the first time the run becomes ``running``."""
        with self.store.write() as tx:
            if tx.runs.get(run_id).state == RunState.CREATED:
                tx.runs.advance(run_id, RunState.RUNNING, actor="operator")
            tx.ledger.note(_AGENT_STARTED, actor="operator", run_id=run_id, detail={"attempt": attempt, "level": level})

    def agent_ended(self, run_id: str, attempt: int, stop: str, exit_code: int | None, usage: Usage) -> None:
        """Notes how an agent's process ended and what all attempts have used so far."""
        with self.store.write() as tx:
            before = tx.ledger.last_sample(run_id)
            total = usage if before is None else _sum(before.usage, usage)
            tx.ledger.measure(run_id, total)
            detail = {"attempt": attempt, "stop": stop, "exit_code": exit_code}
            tx.ledger.note(_AGENT_ENDED, actor="operator", run_id=run_id, detail=detail)

    def stop_clock(self, run_id: str) -> None:
        """Ends the attempt of an agent that nobody supervised: what it used is the time since its start."""
        with self.store.read() as tx:
            starts, ends = tx.ledger.events(run_id, _AGENT_STARTED), tx.ledger.events(run_id, _AGENT_ENDED)
            seconds = tx.now - starts[-1].created if starts else 0.0
        if len(starts) > len(ends):
            self.agent_ended(run_id, len(starts), "finished", None, Usage(seconds, 0.0))

    def attempts(self, run_id: str) -> int:
        """Number of times that the agent has been started."""
        with self.store.read() as tx:
            return len(tx.ledger.events(run_id, _AGENT_STARTED))

    def attempt_has_ended(self, run_id: str, attempt: int) -> bool:
        """Whether the end of an attempt has been noted."""
        with self.store.read() as tx:
            return any(event.detail["attempt"] == attempt for event in tx.ledger.events(run_id, _AGENT_ENDED))

    def used(self, run_id: str) -> Usage:
        """What the attempts that have ended used, all together."""
        with self.store.read() as tx:
            sample = tx.ledger.last_sample(run_id)
        return Usage(0.0, 0.0) if sample is None else sample.usage

    def remaining(self, run_id: str) -> Remaining:
        """What is left of a run's budget now."""
        with self.store.read() as tx:
            return _remaining(tx, tx.runs.get(run_id))

    def report_tokens(self, run_id: str, tokens: int) -> None:
        """Adds tokens of the agent's own model. Raises LimitReached: the run has reported too often."""
        with self.store.write() as tx:
            if tx.ledger.count_samples(run_id) >= MAX_REPORTS:
                raise LimitReached(f"run {run_id} has reported tokens {MAX_REPORTS} times; report larger sums")
            before = tx.ledger.last_sample(run_id)
            usage = Usage(0.0, 0.0) if before is None else before.usage
            tx.ledger.measure(run_id, _sum(usage, Usage(0.0, 0.0, agent_tokens=tokens)))

    # --- what an agent asks -----------------------------------------------------------------------------------------

    def ask(self, run: Run, model_path: str, experiment: int | None = None) -> DevQuery:
        """Takes a model in and queues its evaluation on dev; the same model again is the same question.

        Raises:
            SubmissionInvalid: the folder cannot be evaluated.
            LimitReached: no dev queries, or no time, are left.
            TransitionError: the run is not running.
        """
        scenario = self.scenario_of(run)
        self._admit(run, scenario, model_path)

        def one_more(digest: str) -> None:
            with self.store.read() as tx:
                asked = {query.model_digest for query in tx.submissions.dev_queries(run.id)}
                spent = tx.submissions.dev_queries_spent(run.id)
            if digest not in asked and spent >= scenario.budget.dev_queries:
                raise LimitReached(f"run {run.id} has asked {spent} dev queries; no more are allowed")

        prepared = self.take_in(run, scenario, model_path, admit=one_more)
        with self.store.write() as tx:
            experiment_id = None if experiment is None else _experiment_id(tx, run.id, experiment)
            query = tx.submissions.ask_dev(
                run.id,
                key=_question(tx, run.id, prepared.sha256),
                model_digest=prepared.sha256,
                limit=scenario.budget.dev_queries,
                experiment_id=experiment_id,
            )
            payload = {"query": query.id, "folder": str(prepared.folder)}
            tx.queue.enqueue(DEV, run.id, payload, key=f"dev-{query.id}")
        return query

    def submit(
        self, run: Run, model_path: str, workspace: Path | None = None, *, actor: str = AGENT
    ) -> tuple[Submission, Prepared]:
        """Takes a model in as a submission; the same model again is the same submission.

        ``workspace``: the folder that it must lie in; the run's own by default.

        Raises:
            SubmissionInvalid, LimitReached, TransitionError: as :meth:`ask`.
        """
        scenario = self.scenario_of(run)
        if actor == AGENT:
            self._admit(run, scenario, model_path)

        def one_more(digest: str) -> None:
            with self.store.read() as tx:
                made = {one.digest for one in tx.submissions.of_run(run.id)}
            if digest not in made and len(made) >= scenario.budget.submissions:
                raise LimitReached(f"run {run.id} has made {len(made)} submissions; no more are allowed")

        prepared = self.take_in(run, scenario, model_path, workspace, admit=one_more)
        with self.store.write() as tx:
            size = sum(file.size for file in prepared.copied.files)
            submission = tx.submissions.add(
                run.id,
                digest=prepared.sha256,
                path=str(prepared.folder),
                size=size,
                limit=scenario.budget.submissions,
                report={"provenance": prepared.provenance.to_json(), "findings": findings_of(prepared)},
            )
        return submission, prepared

    def declare_final(self, run: Run, number: int, *, actor: str) -> Run:
        """Opens the test for one submission of a run, and queues its evaluation.

        Raises:
            Conflict: there is no such submission.
            TransitionError: the run is not running, or has declared one.
            LimitReached: the agent's time is over.
        """
        if actor == AGENT:
            self._require_time(run)
        with self.store.write() as tx:
            chosen = [one for one in tx.submissions.of_run(run.id) if one.number == number]
            if not chosen:
                raise Conflict(f"run {run.id} has no submission {number}")
            tx.submissions.declare_final(chosen[0].id, actor=actor)
            tx.queue.enqueue(FINAL, run.id, {"submission": chosen[0].id}, key="final")
            return tx.runs.get(run.id)

    def claimed_weights(self, run: Run) -> Prepared | None:
        """The model that an agent left beside code that is replayed; None where there is none to be evaluated."""
        try:
            return self.take_in(run, self.scenario_of(run), "output/model")
        except SubmissionInvalid:
            return None

    def finish(self, run_id: str) -> Run:
        """Ends an agent's part: what it declared stands, else ``output/model`` (or, replayed, ``code/``) is final.

        A run whose agent left nothing that can be evaluated becomes ``invalid``, with the reason.
        """
        with self.store.write() as tx:
            run = tx.runs.get(run_id)
            tx.runs.revoke_token(run_id)
            if run.state == RunState.RUNNING and run.track == Track.REPLAY:
                tx.queue.enqueue(REPLAY, run_id, {}, key="replay", max_attempts=2)
        if run.state == RunState.CREATED:
            return self.end(run_id, RunState.INTERRUPTED, Reason("not_started", "its agent was never started"))
        if run.state != RunState.RUNNING or run.track == Track.REPLAY:
            return run
        try:
            submission, _ = self.submit(run, "output/model", actor="operator")
            return self.declare_final(run, submission.number, actor="operator")
        except SubmissionInvalid as refused:
            return self.end(run_id, RunState.INVALID, refused.reason)
        except LimitReached:
            return self._last_submission(run)

    def _last_submission(self, run: Run) -> Run:
        """The final submission of an agent that has none left: the last one that it made."""
        with self.store.read() as tx:
            number = tx.submissions.of_run(run.id)[-1].number
        return self.declare_final(run, number, actor="operator")

    def end(self, run_id: str, state: RunState, reason: Reason, *, actor: str = "operator") -> Run:
        """Ends a run without a score, unless it has ended; nothing of it is evaluated any more."""
        with self.store.write() as tx:
            run = tx.runs.get(run_id)
            if run.state.is_end:
                return run
            tx.queue.cancel(run_id)
            tx.runs.revoke_token(run_id)
            return tx.runs.advance(run_id, state, actor=actor, reasons=(reason,))

    # --- the notebook -----------------------------------------------------------------------------------------------

    def propose(self, run: Run, statement: str, reason: str) -> Hypothesis:
        """Notes a hypothesis. Raises LimitReached: the notebook is full; TransitionError: the run is not running."""
        with self.store.write() as tx:
            _require_room(tx.notebook.counts(run.id)[0], run.id)
            return tx.notebook.propose(run.id, statement, reason)

    def begin(self, run: Run, hypothesis: int, recipe: Mapping[str, Any], code_path: str | None) -> Experiment:
        """Notes an experiment on a hypothesis, given by its number. Raises as :meth:`propose`, and Conflict."""
        with self.store.write() as tx:
            _require_room(tx.notebook.counts(run.id)[1], run.id)
            found = tx.notebook.hypothesis_id(run.id, hypothesis)
            if found is None:
                raise Conflict(f"run {run.id} has no hypothesis {hypothesis}")
            return tx.notebook.begin(found, recipe, code_path=code_path)

    def end_experiment(
        self,
        run: Run,
        number: int,
        state: ExperimentState,
        *,
        feedback: str,
        claimed_score: float | None,
        log_path: str | None,
    ) -> Experiment:
        """Notes how an experiment, given by its number, went. Raises Conflict: there is none, or it has ended."""
        with self.store.write() as tx:
            return tx.notebook.end(
                _experiment_id(tx, run.id, number),
                state,
                feedback=feedback,
                claimed_score=claimed_score,
                log_path=log_path,
            )

    # --- taking models in -------------------------------------------------------------------------------------------

    def take_in(
        self,
        run: Run,
        scenario: Scenario,
        model_path: str,
        workspace: Path | None = None,
        *,
        admit: Callable[[str], None] = lambda digest: None,
    ) -> Prepared:
        """Copies a model folder of the run's workspace into the vault and checks it.

        ``admit`` is told its digest before anything stays in the vault, and may raise.

        Raises:
            SubmissionInvalid: it cannot be evaluated.
        """
        base = self.base_model(scenario)
        taken = prepare(
            model_path,
            workspace or self.home.workspace(run.id),
            base,
            self.limits,
            vault=self.home.vault,
            siblings=self._siblings(base),
            admit=admit,
        )
        if isinstance(taken, Refused):
            raise SubmissionInvalid(taken.reason)
        return taken

    def _admit(self, run: Run, scenario: Scenario, model_path: str) -> None:
        """Counts one more folder that an agent has us look at. Raises LimitReached: too many, or no time is left."""
        self._require_time(run)
        limit = SPARE_LOOKS + 2 * (scenario.budget.dev_queries + scenario.budget.submissions)
        with self.store.write() as tx:
            if len(tx.ledger.events(run.id, _LOOKED)) >= limit:
                raise LimitReached(f"run {run.id} has had {limit} folders looked at; no more are")
            tx.ledger.note(_LOOKED, actor="agent", run_id=run.id, detail={"path": model_path[:200]})

    def base_model(self, scenario: Scenario) -> Path:
        """The folder of a scenario's base model."""
        return self.home.root / scenario.base_model_path

    def _siblings(self, base: Path) -> dict[str, Path]:
        """The other models that an agent can read, in assets/models and in the library: none of them is its work."""
        folders = (self.home.root / "assets" / "models").glob("*")
        found = {one.name: one for one in folders if one != base and any(one.glob("*.safetensors"))}
        return {name: folder for name, folder in BUNDLED.items() if name != base.name} | found

    def _require_time(self, run: Run) -> None:
        if self.remaining(run.id).seconds <= 0:
            raise LimitReached(f"run {run.id} has used its {run.budget['wall_seconds']} seconds")


def _remaining(tx: Transaction, run: Run) -> Remaining:
    budget = run.budget
    queries = budget["dev_queries"] - tx.submissions.dev_queries_spent(run.id)
    submissions = budget["submissions"] - len(tx.submissions.of_run(run.id))
    return Remaining(max(0.0, _seconds_left(tx, run)), max(0, queries), max(0, submissions))


def _seconds_left(tx: Transaction, run: Run) -> float:
    """Wall seconds: of the budget, less what ended attempts used, less what the present one has."""
    sample = tx.ledger.last_sample(run.id)
    used = 0.0 if sample is None else sample.usage.wall_seconds
    starts, ends = tx.ledger.events(run.id, _AGENT_STARTED), tx.ledger.events(run.id, _AGENT_ENDED)
    if len(starts) > len(ends):
        used += tx.now - starts[-1].created
    return float(run.budget["wall_seconds"]) - used


def findings_of(prepared: Prepared) -> list[dict[str, Any]]:
    """What the weights alone tell, as a report keeps it."""
    return [asdict(finding.flag) for finding in prepared.findings.all]


def _question(tx: Transaction, run_id: str, digest: str) -> str:
    """The key of a question for a model: the same one, until we fail to answer it."""
    queries = tx.submissions.dev_queries(run_id)
    failed = sum(one.model_digest == digest and one.state == QueryState.INFRASTRUCTURE for one in queries)
    return f"{digest[:40]}-{failed}"


def _require_room(notes: int, run_id: str) -> None:
    if notes >= MAX_NOTES:
        raise LimitReached(f"the notebook of run {run_id} is full: it holds {MAX_NOTES} notes of a kind")


def _experiment_id(tx: Transaction, run_id: str, number: int) -> int:
    found = tx.notebook.experiment_id(run_id, number)
    if found is None:
        raise Conflict(f"run {run_id} has no experiment {number}")
    return found


def _sum(one: Usage, other: Usage) -> Usage:
    """What was used in two stretches of a run."""
    return Usage(
        wall_seconds=one.wall_seconds + other.wall_seconds,
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        gpu_seconds=one.gpu_seconds + other.gpu_seconds,
        peak_memory=max(one.peak_memory, other.peak_memory),
        disk=max(one.disk, other.disk),
        agent_tokens=one.agent_tokens + other.agent_tokens,
    )
