"""What a number was measured on: versions, processor, threads. No host, user or folder names."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import astune

_PACKAGES = ("torch", "transformers", "tokenizers", "renderers", "sandlock", "agentscope", "trl")


def environment() -> dict[str, str]:
    """Software versions and hardware of this process, for the report and the summary."""
    return {
        "astune": astune.__version__,
        "python": platform.python_version(),
        **{name: version for name in _PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": _processor(),
        "cores": str(_cores()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _cores() -> int:
    """Cores that this process may use, not those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
