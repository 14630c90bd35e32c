"""One line at a terminal on how a run is going, while it goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape

from autorl_bench.bench import Bench
from autorl_bench.store import QueryState, RunState, StoreError
from autorl_bench.store.records import Run
from autorl_bench.store.states import Role

_INTERVAL = 1.0


@contextmanager
def shown(bench: Bench, run: Run, console: Console) -> Iterator[None]:
    """Shows a changing line while the block runs; nothing where the output is no terminal."""
    if not console.is_terminal:
        yield
        return
    done = threading.Event()
    with console.status(f"{run.agent}: starts") as status:

        def follow() -> None:
            while not done.wait(_INTERVAL):
                with suppress(StoreError):  # busy: the next look will do
                    status.update(escape(line(bench, run.id)))

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def line(bench: Bench, run_id: str) -> str:
    """How a run stands: time left, experiments, dev questions answered, the best answer."""
    left = bench.remaining(run_id)
    with bench.store.read() as tx:
        run = tx.runs.get(run_id)
        experiments = len(tx.notebook.experiments(run_id))
        queries = tx.submissions.dev_queries(run_id)
        scores = [record.evaluation.accuracy for record in tx.results.of_run(run_id, Role.DEV)]
    answered = sum(query.state == QueryState.ANSWERED for query in queries)
    best = f", best {max(scores):.1f} %" if scores else ""
    if run.state in (RunState.CREATED, RunState.RUNNING):
        stage = f"{left.seconds:.0f} s left"
    else:
        stage = "the grader is at work" if not run.state.is_end else str(run.state)
    return f"{run.agent}, seed {run.seed}: {stage}, {experiments} experiments, {answered} answers on dev{best}"
