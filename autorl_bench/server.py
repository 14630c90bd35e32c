"""The benchmark over HTTP (FastAPI): the seed's two endpoints, everything else that an agent may ask, and the pages.

``GET /openapi.json`` describes all of it. Whoever asks about a run proves to be its agent with the run's token
(``Authorization: Bearer``); scenarios, boards and pages are for everybody who can reach the server.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from astune.errors import AstuneError, CheckpointError
from autorl_bench import api
from autorl_bench.answers import Answers, evaluation_view
from autorl_bench.bench import Bench, SubmissionInvalid
from autorl_bench.scenarios import UnknownScenario, details, four_fields
from autorl_bench.store import (
    Conflict,
    ExperimentState,
    LimitReached,
    QueryState,
    RecordError,
    StoreError,
    Track,
    UnknownRecord,
)
from autorl_bench.store.records import DevQuery, Experiment, Hypothesis, Run
from autorl_bench.types import Reason
from autorl_bench.web.pages import make_router

#: Requests of one run that may be under way at once; those beyond are told to come back.
MAX_AT_ONCE = 16
#: Longest body of a request, in bytes.
MAX_BODY = 2 * 2**20
#: Longest that a request waits for an answer before it is sent away, in seconds; asking again costs nothing.
MAX_WAIT = 3600.0
_Id = Annotated[int, Path(ge=1, lt=2**63)]
_STATUS: dict[type[Exception], tuple[int, str]] = {
    UnknownScenario: (404, "unknown_scenario"),
    UnknownRecord: (404, "not_found"),
    LimitReached: (429, "limit_reached"),
    Conflict: (409, "conflict"),
    RecordError: (422, "bad_value"),
    StoreError: (503, "store"),
    CheckpointError: (503, "disk"),
    AstuneError: (500, "infrastructure"),
}


class Desk:
    """What requests share: the benchmark, the answers that are waited for, who is being served."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.answers = Answers(bench.store)
        self._serving: Counter[str] = Counter()

    def run_of(self, authorization: str | None) -> Run:
        """The run whose token a request carries. Raises HTTPException 401."""
        scheme, _, token = (authorization or "").partition(" ")
        with self.bench.store.read() as tx:
            run = tx.runs.authenticate(token) if scheme.lower() == "bearer" else None
        if run is None:
            message = "send the run's token: Authorization: Bearer TOKEN (the agent finds it in AUTORL_TOKEN)"
            raise HTTPException(401, {"code": "token", "message": message}, {"WWW-Authenticate": "Bearer"})
        return run

    @contextmanager
    def place(self, run_id: str) -> Iterator[None]:
        """One of the run's places in the server. Raises HTTPException 429 when all are taken."""
        if self._serving[run_id] >= MAX_AT_ONCE:
            message = f"{MAX_AT_ONCE} requests of this run are under way; wait for one of them"
            raise HTTPException(429, {"code": "too_many_at_once", "message": message}, {"Retry-After": "1"})
        self._serving[run_id] += 1
        try:
            yield
        finally:
            self._serving[run_id] -= 1


def make_app(bench: Bench, *, pages: bool = True, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The application; its only state is the store's.

    Args:
        bench: the benchmark.
        pages: with the boards and pages. Agents are served without: they would see each other's work there.
        hosts: names under which requests may ask for the server; a page of somebody else's that a browser was led to
            believe is here (DNS rebinding) names another.
    """
    desk = Desk(bench)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(desk.answers.watch())
        yield
        watching.cancel()

    app = FastAPI(
        title="AutoRL-Bench",
        summary="How well agents post-train models.",
        lifespan=lifespan,
        responses={"4XX": {"model": api.Refusal, "description": "Refused, with the reason."}},
    )
    app.include_router(_public(desk))
    app.include_router(_agent(desk))
    if pages:
        app.include_router(make_router(bench.store, bench.scenarios, bench.home.root))
    for kind in _STATUS:
        app.add_exception_handler(kind, _explain)
    app.add_exception_handler(SubmissionInvalid, _refuse)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(StarletteHTTPException, _in_our_form)
    app.add_middleware(_BoundedBody)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


# --- for everybody ------------------------------------------------------------------------------------------------


def _public(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["scenarios"])
    scenarios = desk.bench.scenarios

    @router.get("/healthz", tags=["server"])
    def healthz() -> dict[str, str]:
        """Answers while the store does."""
        with desk.bench.store.read() as tx:
            tx.queue.depth()
        return {"status": "ok"}

    @router.get("/scenarios")
    def all_scenarios() -> api.ScenarioList:
        """Ids of all scenarios."""
        return api.ScenarioList(scenarios=list(scenarios.ids))

    @router.get("/scenarios/{scenario_id}")
    def scenario(scenario_id: str) -> api.FourFields:
        """A scenario in four fields."""
        return api.FourFields(**four_fields(scenarios.get(scenario_id)))

    @router.get("/scenarios/{scenario_id}/details")
    def scenario_details(scenario_id: str) -> dict[str, Any]:
        """All that an agent may know of a scenario."""
        return details(scenarios.get(scenario_id))

    return router


# --- for a run's agent --------------------------------------------------------------------------------------------


def _agent(desk: Desk) -> APIRouter:
    bench = desk.bench

    async def own_run(authorization: Annotated[str | None, Header()] = None) -> AsyncIterator[Run]:
        run = await run_in_threadpool(desk.run_of, authorization)
        with desk.place(run.id):
            yield run

    async def named_run(run_id: str, run: Annotated[Run, Depends(own_run)]) -> Run:
        if run.id != run_id:
            raise HTTPException(401, {"code": "token", "message": f"this token is not run {run_id}'s"})
        return run

    Own = Annotated[Run, Depends(own_run)]
    Named = Annotated[Run, Depends(named_run)]
    router = APIRouter(tags=["run"])

    @router.post("/evaluate", tags=["run"])
    async def evaluate(body: api.ModelPath, run: Own) -> api.Feedback:
        """Evaluates a model of the run's workspace on dev; answers when the grader has."""
        query = await run_in_threadpool(bench.ask, run, body.model_path)
        view = await desk.answers.of(query, MAX_WAIT)
        if view.state != QueryState.ANSWERED or view.score is None or view.baseline is None:
            raise _no_score(view)
        return api.Feedback(baseline=view.baseline, score=view.score)

    @router.get("/runs/{run_id}")
    def status(run: Named) -> api.RunStatus:
        """Where the run is and what is left of its budget."""
        return _status(bench, run)

    @router.post("/runs/{run_id}/evaluations", status_code=202)
    def ask(body: api.AskEvaluation, run: Named) -> api.EvaluationView:
        """Asks for a score on dev; the same model again is the same question."""
        return _view(desk, bench.ask(run, body.model_path, body.experiment))

    @router.get("/runs/{run_id}/evaluations/{evaluation_id}")
    async def answer(
        evaluation_id: _Id, run: Named, wait: Annotated[float, Query(ge=0, le=60)] = 0.0
    ) -> api.EvaluationView:
        """The answer to a question, or what has become of it after ``wait`` seconds."""
        query = await run_in_threadpool(_query, bench, run, evaluation_id)
        return await desk.answers.of(query, wait)

    @router.post("/runs/{run_id}/submissions", status_code=201)
    def submit(body: api.ModelPath, run: Named) -> api.SubmissionView:
        """Hands a model in; the same model again is the same submission."""
        _require_weights(run)
        submission, prepared = bench.submit(run, body.model_path)
        notices = [api.ReasonView(code=one.code, message=one.message) for one in prepared.findings.notices]
        return api.SubmissionView(
            number=submission.number,
            digest=submission.digest,
            size=submission.size,
            final=submission.final,
            notices=notices,
        )

    @router.post("/runs/{run_id}/final")
    def final(body: api.Final, run: Named) -> api.RunStatus:
        """Chooses the submission that the test is opened for, once."""
        _require_weights(run)
        return _status(bench, bench.declare_final(run, body.submission, actor="agent"))

    @router.post("/runs/{run_id}/hypotheses", status_code=201, tags=["notebook"])
    def propose(body: api.AskHypothesis, run: Named) -> api.HypothesisView:
        """Notes what the agent believes would help."""
        return _hypothesis(bench.propose(run, body.statement, body.reason))

    @router.post("/runs/{run_id}/experiments", status_code=201, tags=["notebook"])
    def begin(body: api.AskExperiment, run: Named) -> api.ExperimentView:
        """Notes how a hypothesis is tried."""
        experiment = bench.begin(run, body.hypothesis, body.recipe, body.code_path)
        return _experiment(experiment, body.hypothesis)

    @router.post("/runs/{run_id}/experiments/{number}/end", tags=["notebook"])
    def end(number: _Id, body: api.EndExperiment, run: Named) -> api.ExperimentView:
        """Notes how an experiment went."""
        experiment = bench.end_experiment(
            run,
            number,
            ExperimentState(body.state),
            feedback=body.feedback,
            claimed_score=body.claimed_score,
            log_path=body.log_path,
        )
        with bench.store.read() as tx:
            numbers = {one.id: one.number for one in tx.notebook.hypotheses(run.id)}
        return _experiment(experiment, numbers[experiment.hypothesis_id])

    @router.post("/runs/{run_id}/usage")
    def usage(body: api.TokensUsed, run: Named) -> api.RunStatus:
        """Adds tokens of the agent's own model to what the run used."""
        bench.report_tokens(run.id, body.agent_tokens)
        return _status(bench, run)

    return router


def _require_weights(run: Run) -> None:
    if run.track == Track.REPLAY:
        raise Conflict(f"run {run.id} is replayed: leave code/train.py and end; what it trains is the submission")


def _query(bench: Bench, run: Run, evaluation_id: int) -> DevQuery:
    with bench.store.read() as tx:
        query = tx.submissions.dev_query(evaluation_id)
    if query.run_id != run.id:
        raise UnknownRecord(f"run {run.id} has no evaluation {evaluation_id}")
    return query


def _view(desk: Desk, query: DevQuery) -> api.EvaluationView:
    with desk.bench.store.read() as tx:
        return evaluation_view(tx, query)


def _status(bench: Bench, run: Run) -> api.RunStatus:
    left = bench.remaining(run.id)
    return api.RunStatus(
        id=run.id,
        scenario=run.scenario,
        agent=run.agent,
        track=run.track,
        seed=run.seed,
        state=run.state,
        budget=dict(run.budget),
        seconds_left=left.seconds,
        dev_queries_left=left.dev_queries,
        submissions_left=left.submissions,
        reasons=[api.ReasonView(code=one.code, message=one.message) for one in run.reasons],
    )


def _hypothesis(one: Hypothesis) -> api.HypothesisView:
    return api.HypothesisView(number=one.number, statement=one.statement, reason=one.reason)


def _experiment(one: Experiment, hypothesis: int) -> api.ExperimentView:
    state: Literal["running", "succeeded", "failed"] = one.state.value
    return api.ExperimentView(
        number=one.number,
        hypothesis=hypothesis,
        state=state,
        recipe=dict(one.recipe),
        feedback=one.feedback,
        claimed_score=one.claimed_score,
    )


# --- errors -------------------------------------------------------------------------------------------------------


def _no_score(view: api.EvaluationView) -> HTTPException:
    """The answer to a question that has no score: refused (422), our failure (503), or not answered yet (503)."""
    if view.state == QueryState.OPEN:
        message = f"evaluation {view.id} is still waiting; ask again, it costs nothing"
        return HTTPException(503, {"code": "open", "message": message}, {"Retry-After": "1"})
    reason = view.reasons[0] if view.reasons else api.ReasonView(code=view.state, message="there is no score")
    status = 422 if view.state == QueryState.INVALID else 500
    return HTTPException(status, {"code": reason.code, "message": reason.message})


async def _explain(_: Request, error: Exception) -> JSONResponse:
    status, code = next(answer for kind, answer in _STATUS.items() if isinstance(error, kind))
    known = list(error.known) if isinstance(error, UnknownScenario) else None
    return _problem(status, Reason(code, str(error)), known)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SubmissionInvalid)
    return _problem(422, error.reason)


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
    return _problem(422, Reason("malformed", "; ".join(lines)))


async def _in_our_form(request: Request, error: Exception) -> JSONResponse:
    """Refusals of our own, and the framework's (no such path, no such method), which have no code yet."""
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error.detail, dict):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    code = {404: "not_found", 405: "method"}.get(error.status_code, "http")
    message = f"{request.method} {request.url.path}: {error.detail}; see GET /openapi.json"
    return _problem(error.status_code, Reason(code, message))


def _problem(status: int, reason: Reason, known: list[str] | None = None) -> JSONResponse:
    detail = api.Problem(code=reason.code, message=reason.message, known=known)
    return JSONResponse({"detail": detail.model_dump(exclude_none=True)}, status)


class _BoundedBody:
    """ASGI middleware: a body that is too long is refused before anything is read into memory."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                message_text = f"a request has at most {MAX_BODY} bytes"
                raise HTTPException(413, {"code": "too_large", "message": message_text})
            return message

        await self._app(scope, bounded, send)
