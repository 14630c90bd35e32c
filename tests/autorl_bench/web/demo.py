"""A benchmark folder with three agents and three seeds each, made through the store's own API; numbers are invented."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.store import ExperimentState, Role, RunState, SubmissionState, Track, open_store
from autorl_bench.store.records import Usage
from autorl_bench.submission.findings import Finding, FlagCode
from autorl_bench.types import Evaluation, ItemResult, Reason

START = 1_800_000_000.0
SECRET = "HIDDEN-COMPLETION"
TRAIN = '''\
"""GRPO on the base model, with the recipe of this experiment."""
import os, subprocess, sys

command = [sys.executable, "-m", "astune.cli", "--conf", "recipe.yaml", f"model.path={os.environ['AUTORL_BASE_MODEL']}"]
sys.exit(subprocess.call(command))
'''


class Clock:
    """A clock that only the demo moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Step:
    """One experiment: what the agent believed, did and said, and the dev score (percent) that was measured."""

    hypothesis: str
    reason: str
    recipe: dict[str, object]
    dev: float | None
    feedback: str
    claimed: float | None = None


def evaluation(percent: float, n: int, name: str, seed: int) -> Evaluation:
    """About ``percent`` of ``n`` items solved, the same hard items for everyone with this name and seed."""
    rng = random.Random(f"{name}{seed}")
    hardness = [rng.random() for _ in range(n)]
    order = sorted(range(n), key=lambda index: hardness[index] + random.Random(f"{percent}{index}").random() / 3)
    solved = set(order[: round(percent * n / 100)])
    results = (
        ItemResult(f"{name}-{seed}-{index}", index in solved, f"{SECRET} {index}", 40, False) for index in range(n)
    )
    return Evaluation(tuple(results))


class Demo:
    """Makes runs in the folder ``home``; the store is ``home/vault/store.db``."""

    def __init__(self, home: Path, scenario: str = "nano_gsm") -> None:
        self.home, self.scenario, self.clock = home, ScenarioRegistry().get(scenario), Clock()
        self.store = open_store(home / "vault" / "store.db", clock=self.clock)
        self._count = 0

    def start(self, agent: str, seed: int, track: Track = Track.WEIGHTS, version: str = "1") -> str:
        """A running run with its baselines."""
        self._count += 1
        run_id = f"{self.scenario.id}_20270115-0{self._count // 10}{self._count % 10}000-{self._count:04x}"
        with self.store.write() as tx:
            snapshot = tx.runs.snapshot_scenario(self.scenario.id, self.scenario.model_dump(mode="json"))
            version = tx.runs.register_agent(agent, {"command": ["python", "agent.py"], "version": version})
            budget = self.scenario.budget.model_dump(mode="json")
            options = {"track": track, "seed": seed, "budget": budget, "isolation": "kernel"}
            tx.runs.create(snapshot, version, run_id=run_id, draw=f"draw-{seed}", **options)
        self.clock.now += 2
        with self.store.write() as tx:
            tx.runs.advance(run_id, RunState.RUNNING, actor="server")
        with self.store.write() as tx:
            for role, n in ((Role.BASELINE, 200), (Role.DEV_BASELINE, 100)):
                base = evaluation(43 + seed, n, role.removesuffix("baseline"), seed)
                tx.results.record(run_id, role, base, n_items=n, model_digest="b" * 64, seconds=4.0)
        code = self.home / "workspace" / run_id / "code"
        code.mkdir(parents=True)
        return run_id

    def note(self, run_id: str, what: str) -> None:
        """An event along the run."""
        with self.store.write() as tx:
            tx.ledger.note(what, actor="operator", run_id=run_id)

    def work(self, run_id: str, steps: Sequence[Step], seconds: float = 90, number: int = 1) -> None:
        """The agent tries its steps, one after the other; the first is experiment ``number``."""
        for offset, step in enumerate(steps):
            self._try(run_id, number + offset, step, seconds)

    def _try(self, run_id: str, number: int, step: Step, seconds: float) -> None:
        folder = self.home / "workspace" / run_id / "code" / f"experiment_{number}"
        folder.mkdir(parents=True)
        (folder / "train.py").write_text(TRAIN)
        (folder / "recipe.yaml").write_text("".join(f"{key}: {value}\n" for key, value in step.recipe.items()))
        logs = self.home / "workspace" / run_id / "logs"
        logs.mkdir(exist_ok=True)
        (logs / f"{number}.log").write_text(
            "".join(f"step {n}  reward {0.4 + n / 300:.3f}\n" for n in range(0, 120, 10))
        )
        with self.store.write() as tx:
            idea = tx.notebook.propose(run_id, step.hypothesis, step.reason)
            trial = tx.notebook.begin(idea.id, step.recipe, code_path=f"code/experiment_{number}")
        self.clock.now += seconds
        with self.store.write() as tx:
            failed = step.dev is None
            state = ExperimentState.FAILED if failed else ExperimentState.SUCCEEDED
            log = f"logs/{number}.log"
            tx.notebook.end(trial.id, state, feedback=step.feedback, claimed_score=step.claimed, log_path=log)
            if step.dev is not None:
                digest = f"{number}".rjust(64, "0")
                query = tx.submissions.ask_dev(
                    run_id, key=str(number), model_digest=digest, limit=10, experiment_id=trial.id
                )
                seed = tx.runs.get(run_id).seed
                answer = evaluation(step.dev, 100, "dev_", seed)
                tx.results.answer_dev(query.id, answer, n_items=100, seconds=2.0)
            elapsed = self.clock.now - (tx.runs.get(run_id).started or 0)
            usage = Usage(elapsed, 1.8 * elapsed, 0, int(1.1 * 2**30), 380 * 2**20, 4_300 * number)
            tx.ledger.measure(run_id, usage)

    def submit(self, run_id: str, size: int = 11_534_336) -> int:
        """The final submission; the run waits for the grader."""
        with self.store.write() as tx:
            made = tx.submissions.add(run_id, digest="5e" * 32, path="vault/submitted/1", size=size, limit=3)
            tx.submissions.report(made.id, "provenance", PROVENANCE)
            tx.submissions.report(made.id, "contamination", CONTAMINATION)
            tx.submissions.report(made.id, "claimed", {"folder": "/home/vault/models/1", "digest": "5e" * 32})
            tx.submissions.declare_final(made.id, actor="agent")
        self.clock.now += 1
        with self.store.write() as tx:
            tx.runs.advance(run_id, RunState.EVALUATING, actor="grader")
        self._write_logs(run_id)
        return made.id

    def score(self, run_id: str, percent: float, digest: str = "3".rjust(64, "0")) -> None:
        """Submits and scores a run."""
        final = self.submit(run_id)
        self.clock.now += 5
        with self.store.write() as tx:
            seed = tx.runs.get(run_id).seed
            tested = evaluation(percent, 200, "", seed)
            tx.results.score_run(final, tested, n_items=200, model_digest=digest, seconds=4.0, actor="grader")
            twin = evaluation(percent - 1, 200, "twin", seed)
            facts = {"n_items": 200, "model_digest": digest, "seconds": 4.0, "submission_id": final}
            tx.results.record(run_id, Role.TWIN, twin, **facts)

    def flag(self, run_id: str, code: FlagCode, message: str, **evidence: float) -> None:
        """A finding against a run."""
        with self.store.write() as tx:
            tx.ledger.flag(run_id, Finding(code, message, evidence).flag)

    def end(self, run_id: str, state: RunState, reason: Reason) -> None:
        """Ends a run without a score."""
        self.clock.now += 3
        with self.store.write() as tx:
            final = tx.submissions.final(run_id)
            if final is not None and state == RunState.INVALID:
                tx.submissions.refuse(final.id, SubmissionState.INVALID, (reason,))
            tx.runs.advance(run_id, state, actor="grader", reasons=(reason,))

    def _write_logs(self, run_id: str) -> None:
        folder = self.home / "log" / run_id / "agent-1"
        folder.mkdir(parents=True)
        (folder / "stdout.log").write_text("read the task\ntried experiment 1\ntried experiment 2\nsubmitted\n")
        (folder / "stderr.log").write_text("")


PROVENANCE = {
    "identical": False,
    "relative": 0.0218,
    "changed_tensors": 38,
    "tensors": [
        {"name": f"model.layers.{n}.mlp.up_proj.weight", "elements": 98_304, "relative": 0.02 + n / 999, "rank": 64}
        for n in range(4)
    ],
    "siblings": [{"model": "nano_refine", "shared_elements": 2_900_000, "nearer": 21.4, "cosine": 0.03}],
}
CONTAMINATION = {
    "test": {"items": 200, "exact": [], "similar": ["nano_gsm/HIDDEN-ID"]},
    "twin": {"items": 200, "exact": [], "similar": []},
    "canaries": 0,
    "places": [],
}

WARM = Step(
    "The base model forgets to print its result; a plain GRPO run should remove that habit first.",
    "In 40 sampled answers, 12 ended without a number although the tool had computed one.",
    {"trainer.steps": 40, "trainer.learning_rate": 0.0005, "rollout.group_size": 8},
    61,
    "Reward rose from 0.41 to 0.68 and was still rising at the last step. No tool call was malformed after step 25.",
    66,
)
LARGER = Step(
    "A larger group gives less noisy advantages, so that a higher learning rate is safe.",
    "Half of the groups of 8 had equal rewards and taught nothing.",
    {"trainer.steps": 70, "trainer.learning_rate": 0.001, "rollout.group_size": 16},
    78,
    "Informative groups went from 48 % to 71 %. The gain is larger than the interval of the dev score.",
    81,
)
GREEDY = Step(
    "Dr. GRPO without the length term stops the drift to long answers.",
    "Answers grew by 30 % in the last experiment, and long ones are wrong more often.",
    {"trainer.steps": 70, "trainer.learning_rate": 0.001, "trainer.loss": "dr_grpo", "rollout.group_size": 16},
    88,
    "Shorter answers, and ten more of a hundred problems solved.",
    90,
)
CRASHED = Step(
    "A learning rate of 0.01 reaches the same score in a third of the time.",
    "There are 250 seconds left.",
    {"trainer.steps": 30, "trainer.learning_rate": 0.01, "rollout.group_size": 16},
    None,
    "Diverged at step 9: the loss is NaN. The weights of the last experiment are kept.",
)


def make_demo(home: Path) -> Demo:
    """Three agents with three seeds each: one run flagged, one invalid, one failed for us, one going on."""
    demo = Demo(home)
    for seed, score in ((1, 85), (2, 82), (3, 88)):
        run_id = demo.start("rdagent", seed)
        demo.work(run_id, [WARM, LARGER, GREEDY, CRASHED], seconds=88 + 9 * seed)
        demo.score(run_id, score)
    for seed, score in ((1, 81), (2, 84), (3, 80)):
        run_id = demo.start("reference_recipe", seed)
        demo.work(run_id, [LARGER], seconds=150)
        demo.score(run_id, score)
    _random_search(demo)
    for seed in (1, 2, 3):
        run_id = demo.start("do_nothing", seed)
        demo.score(run_id, 43 + seed)
        demo.flag(run_id, FlagCode.IDENTICAL_TO_BASE, "The weights are the base model's: the score is the baseline.")
    going_on = demo.start("rdagent", 4)
    demo.work(going_on, [WARM])
    return demo


def _random_search(demo: Demo) -> None:
    first = demo.start("random_search", 1)
    demo.work(first, [WARM, LARGER], seconds=140)
    demo.score(first, 79)
    message = "14 of 200 test problems stand word for word in the workspace, the first in code/data.jsonl."
    demo.flag(first, FlagCode.TEST_ITEMS_IN_WORKSPACE, message, test_found=14, test_items=200, p_value=2e-9)
    second = demo.start("random_search", 2)
    demo.work(second, [WARM], seconds=200)
    demo.submit(second)
    demo.end(second, RunState.INVALID, Reason("not_finite", "lm_head.weight holds NaN. Submit an earlier state."))
    third = demo.start("random_search", 3)
    demo.work(third, [WARM], seconds=100)
    demo.end(third, RunState.INFRASTRUCTURE, Reason("no_space", "the grader's disk was full"))
