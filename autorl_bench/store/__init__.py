"""The benchmark's memory: runs, submissions, evaluations, a durable queue of jobs; in SQLite or PostgreSQL."""

from autorl_bench.store.errors import (
    Conflict,
    LeaseLost,
    LimitReached,
    RecordError,
    StoreError,
    TransitionError,
    UnknownRecord,
)
from autorl_bench.store.states import ExperimentState, JobState, QueryState, Role, RunState, SubmissionState, Track
from autorl_bench.store.store import Store, Transaction, open_store

__all__ = [
    "Conflict",
    "ExperimentState",
    "JobState",
    "LeaseLost",
    "LimitReached",
    "QueryState",
    "RecordError",
    "Role",
    "RunState",
    "Store",
    "StoreError",
    "SubmissionState",
    "Track",
    "Transaction",
    "TransitionError",
    "UnknownRecord",
    "open_store",
]
