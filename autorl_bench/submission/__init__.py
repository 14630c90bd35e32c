"""What happens to a submitted model folder before anything is evaluated, and what is found out about it."""

from autorl_bench.submission.contamination import Overlap, TwinGap, scan_workspace, twin_gap
from autorl_bench.submission.findings import Finding, Findings, FlagCode
from autorl_bench.submission.limits import Limits
from autorl_bench.submission.prepare import Prepared, Refused, prepare
from autorl_bench.submission.reasons import Invalid
from autorl_bench.submission.vault import remove_unfinished
from autorl_bench.submission.walk import ScanLimits

__all__ = [
    "Finding",
    "Findings",
    "FlagCode",
    "Invalid",
    "Limits",
    "Overlap",
    "Prepared",
    "Refused",
    "ScanLimits",
    "TwinGap",
    "prepare",
    "remove_unfinished",
    "scan_workspace",
    "twin_gap",
]
