"""Long jobs that nobody trusts (an agent, submitted training code), under a budget."""

from autorl_bench.jobs.choice import RUNNERS, make_runner
from autorl_bench.jobs.local import LocalJobRunner, library_paths, python_paths
from autorl_bench.jobs.types import Endpoint, JobLimits, JobRecord, JobRunner, JobSpec, JobStop

__all__ = [
    "RUNNERS",
    "Endpoint",
    "JobLimits",
    "JobRecord",
    "JobRunner",
    "JobSpec",
    "JobStop",
    "LocalJobRunner",
    "library_paths",
    "make_runner",
    "python_paths",
]
