"""What can go wrong at the store: a store that is not ours, or a request that contradicts what it holds."""

from __future__ import annotations

from astune.errors import AstuneError, UserError


class StoreError(UserError):
    """A store that cannot be opened, reached or read. Nothing in it was changed."""


class RecordError(UserError):
    """A value that no record may hold: too long, not finite, or not of the declared form."""


class UnknownRecord(UserError):
    """No record with the id that was asked for."""


class Conflict(AstuneError):
    """A request that contradicts what the store holds. Its transaction changes nothing."""


class TransitionError(Conflict):
    """A state that cannot follow the one a run or submission is in."""


class LimitReached(Conflict):
    """A budget in numbers (submissions, dev queries) that is spent."""


class LeaseLost(Conflict):
    """A lease that expired, was taken back, or belongs to a job that is over: its holder's work does not count."""
