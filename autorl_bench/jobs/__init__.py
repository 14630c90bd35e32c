"""Long jobs that nobody trusts (an agent, submitted training code), under a budget."""

from autorl_bench.jobs.local import LocalJobRunner, library_paths, python_paths
from autorl_bench.jobs.types import Endpoint, JobLimits, JobRecord, JobRunner, JobSpec, JobStop

__all__ = [
    "Endpoint",
    "JobLimits",
    "JobRecord",
    "JobRunner",
    "JobSpec",
    "JobStop",
    "LocalJobRunner",
    "library_paths",
    "python_paths",
]
