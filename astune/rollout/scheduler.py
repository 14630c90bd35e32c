"""Which request joins the running batch at which step, as a function of data alone.

The floating-point result of a matrix product may depend on which rows share it. So that one seed gives
one run, the deterministic scheduler lets nothing that depends on the wall clock decide who shares a
step. Time is virtual: one decoding step is one tick. A session that leaves the batch at step s is due
again at step ``s + rejoin_steps``. Its tool runs meanwhile, while other rows decode; whoever comes back
early waits for that step, and for whoever comes back late the batch waits. Requests that are due at one
step join in the order of their sessions' keys.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from astune.rollout.types import Sampling
from astune.trace import Turn


@dataclass(eq=False, slots=True)
class Request:
    """One call of ``generate`` on its way through the batch."""

    prompt_ids: list[int]
    sampling: Sampling
    session: str | None
    future: asyncio.Future[Turn]
    due: int = 0
    arrival: int = 0

    @property
    def abandoned(self) -> bool:
        """Whether its caller no longer waits."""
        return self.future.done()


@dataclass(eq=False, slots=True)
class Session:
    """One episode: ``due`` is the step at which its next request is expected."""

    key: tuple[int, ...]
    opened: int
    due: int
    active: int = 0  # requests pending or running
    started: bool = False  # whether a request of it has joined the batch
    awaited: bool = True


@dataclass(slots=True)
class Scheduler:
    """The queue in front of the batch.

    With ``deterministic`` false, whatever is pending joins at once, in order of arrival.

    Sessions that are open before the first step are all waited for. Open every session of a batch
    before its first request: one that opens after others have joined is due at the step it happens to
    find, which the wall clock decides; ``late`` counts those, and sessions that were given up.
    """

    deterministic: bool
    rejoin_steps: int = 8
    now: int = 0
    late: int = 0
    _sessions: dict[str, Session] = field(default_factory=dict)
    _pending: list[Request] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def pending(self) -> list[Request]:
        """Requests that have not joined yet."""
        return self._pending

    def open(self, key: tuple[int, ...]) -> str:
        """Opens a session and returns its id."""
        number = next(self._count)
        self.late += self.deterministic and any(session.started for session in self._sessions.values())
        self._sessions[f"s{number}"] = Session(key, number, self.now)
        return f"s{number}"

    def is_open(self, session: str | None) -> bool:
        """Whether a session may ask again."""
        return session in self._sessions

    def close(self, session: str) -> None:
        """Forgets a session; nobody waits for it any more."""
        self._sessions.pop(session, None)

    def submit(self, request: Request) -> None:
        """Queues a request at the step its session is due (now, if it has none)."""
        request.arrival = next(self._count)
        request.due = self.now
        if (session := self._session(request)) is not None:
            if session.awaited and not session.active:
                request.due = max(self.now, session.due)
            session.awaited = True
            session.active += 1
        self._pending.append(request)

    def left(self, request: Request) -> None:
        """Notes that a request left the batch (or gave up before it joined)."""
        if (session := self._session(request)) is not None:
            session.active -= 1
            session.due = self.now + self.rejoin_steps

    def drop_abandoned(self) -> None:
        """Forgets pending requests whose callers no longer wait."""
        for request in [r for r in self._pending if r.abandoned]:
            self._pending.remove(request)
            self.left(request)

    def advance(self, running: bool) -> None:
        """Moves time past a step; with an empty batch, straight to the next step that is due."""
        if running:
            self.now += 1
            return
        dues = [r.due for r in self._pending] + [s.due for s in self._expected()]
        self.now = max(self.now, min(dues, default=self.now))

    def waiting_for(self) -> list[Session]:
        """Sessions that are due now and have neither asked nor closed."""
        if not self.deterministic:
            return []
        return [s for s in self._expected() if s.due <= self.now]

    def give_up_waiting(self) -> None:
        """Stops waiting for the sessions that are overdue: they join whenever they come."""
        for session in self.waiting_for():
            session.awaited = False
            self.late += 1

    def take(self, room: int) -> list[Request]:
        """Removes and returns the requests that join at this step, at most ``room``, in order."""
        if room <= 0:
            return []  # before the queue is sorted: with a full batch and a long queue that is most steps
        ready = self._pending if not self.deterministic else [r for r in self._pending if r.due <= self.now]
        joining = sorted(ready, key=self._order)[:room]
        for request in joining:
            self._pending.remove(request)
            if (session := self._session(request)) is not None:
                session.started = True
        return joining

    def clear(self) -> list[Request]:
        """Empties the queue after a failure and returns what was in it."""
        dropped, self._pending = self._pending, []
        for request in dropped:
            self.left(request)
        return dropped

    def _expected(self) -> list[Session]:
        return [s for s in self._sessions.values() if s.awaited and not s.active]

    def _session(self, request: Request) -> Session | None:
        return None if request.session is None else self._sessions.get(request.session)

    def _order(self, request: Request) -> tuple[int, bool, tuple[int, ...], int, int]:
        session = self._session(request)
        if not self.deterministic or session is None:
            return (request.due if self.deterministic else 0, True, (), 0, request.arrival)
        return (request.due, False, session.key, session.opened, request.arrival)
