"""Answers to dev queries, for those who wait: one look at the store for all of them, however many there are."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from fastapi.concurrency import run_in_threadpool

from autorl_bench.api import EvaluationView, ReasonView
from autorl_bench.store import QueryState, Store, StoreError, Transaction
from autorl_bench.store.records import DevQuery
from autorl_bench.store.states import Role

_INTERVAL = 0.1
_log = logging.getLogger(__name__)


class Answers:
    """Waits for the grader's answers on behalf of many requests."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[int, set[asyncio.Future[DevQuery]]] = defaultdict(set)

    async def of(self, query: DevQuery, seconds: float) -> EvaluationView:
        """The answer to ``query``, or how it stands after ``seconds``."""
        if query.state == QueryState.OPEN and seconds > 0:
            query = await self._wait(query, seconds)
        return await run_in_threadpool(self._view, query.id)

    def _view(self, query_id: int) -> EvaluationView:
        with self._store.read() as tx:
            return evaluation_view(tx, tx.submissions.dev_query(query_id))

    async def _wait(self, query: DevQuery, seconds: float) -> DevQuery:
        future: asyncio.Future[DevQuery] = asyncio.get_running_loop().create_future()
        self._waiting[query.id].add(future)
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return query
        finally:
            self._waiting[query.id].discard(future)
            if not self._waiting[query.id]:
                del self._waiting[query.id]

    async def watch(self) -> None:
        """Looks for answers until cancelled. A store that is busy is asked again."""
        while True:
            await asyncio.sleep(_INTERVAL)
            if not self._waiting:
                continue
            try:
                ended = await run_in_threadpool(self._ended, list(self._waiting))
            except StoreError as error:
                _log.warning("answers cannot be read now: %s", error)
                continue
            for query in ended:
                for future in self._waiting.get(query.id, ()):
                    if not future.done():
                        future.set_result(query)

    def _ended(self, ids: list[int]) -> list[DevQuery]:
        with self._store.read() as tx:
            queries = [tx.submissions.dev_query(query_id) for query_id in ids]
        return [query for query in queries if query.state != QueryState.OPEN]


def evaluation_view(tx: Transaction, query: DevQuery) -> EvaluationView:
    """A dev query as its run is told of it: the score, its interval, the base model's score; nothing of the items."""
    view = EvaluationView(
        id=query.id,
        state=query.state,
        reasons=[ReasonView(code=one.code, message=one.message) for one in query.reasons],
    )
    if query.evaluation_id is None:
        return view
    evaluation = tx.results.get(query.evaluation_id).evaluation
    low, high = evaluation.interval
    baselines = tx.results.of_run(query.run_id, Role.DEV_BASELINE)
    return view.model_copy(
        update={
            "score": round(evaluation.accuracy, 2),
            "low": round(low, 2),
            "high": round(high, 2),
            "items": len(evaluation.results),
            "baseline": round(baselines[0].evaluation.accuracy, 2) if baselines else None,
        }
    )
