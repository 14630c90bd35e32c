"""One sandboxed tool call against a cold interpreter and against AgentScope's own ``execute_python_code``.

    python benchmarks/tool_call.py                # writes benchmarks/results/tool_call.json
    python benchmarks/tool_call.py --write-docs   # puts that file's numbers into docs/sandbox.md

The three take turns, call by call, so that whatever else the machine does falls on all of them; a
ratio is one of medians of the same run. A pause before each call, as between an agent's calls, lets the
work that one contender leaves behind (the sandbox forks its next child) fall on none of the others.
What a call costs without pauses is measured apart, in wall and processor time.
Sandboxed calls run with kernel confinement or not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import agentscope
from agentscope.tool import execute_python_code as agentscope_tool

from astune.tools.python_tool import execute_python_code, use_sandbox
from astune.tools.sandbox import Sandbox

RESULT = Path(__file__).parent / "results" / "tool_call.json"
DOCS = Path(__file__).parents[1] / "docs" / "sandbox.md"
BLOCK = re.compile(r"(<!-- begin tool_call[^>]*-->\n).*?(<!-- end tool_call -->)", re.DOTALL)
PAUSE = 0.02
BACK_TO_BACK = 100
Contender = Callable[[str], Awaitable[str]]

#: Name -> (modules preloaded, code of call ``i``, targeted ratio to a cold interpreter). No code occurs twice.
CASES: dict[str, tuple[tuple[str, ...], Callable[[int], str], float]] = {
    "arithmetic": ((), lambda i: f"eggs = 16 + {i}\nprint((eggs - 3 - 4) * 2)", 5.0),
    "numpy": (("numpy",), lambda i: f"import numpy as np\nprint(np.arange(100).sum() + {i})", 10.0),
    "sympy": (
        ("sympy",),
        lambda i: f"import sympy as s\nx = s.symbols('x')\nprint(s.solve(x**2 - {i + 2}*x + {i + 1}, x))",
        5.0,
    ),
}


async def cold_interpreter(code: str) -> str:
    """A fresh, unconfined ``python -I -c``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return (await process.communicate())[0].decode()


async def agentscope_call(code: str) -> str:
    """AgentScope's tool: a temporary file and a fresh, unconfined interpreter."""
    response: Any = await agentscope_tool(code)
    return str(response.content[0]["text"])


def answer(text: str) -> str:
    """The printed text, out of either form."""
    return text.split("<stdout>")[-1].split("</stdout>")[0].strip()


async def measure(code_of: Callable[[int], str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, contender by contender; the order rotates from round to round."""
    contenders: list[tuple[str, Contender]] = [
        ("sandboxed", execute_python_code),
        ("cold_interpreter", cold_interpreter),
        ("agentscope", agentscope_call),
    ]
    seconds: dict[str, list[float]] = {name: [] for name, _ in contenders}
    for i in range(-1, rounds):  # round -1 warms the page cache and is not counted
        answers = set()
        for name, call in contenders[i % 3 :] + contenders[: i % 3]:
            await asyncio.sleep(PAUSE)
            start = time.perf_counter()
            answers.add(answer(await call(code_of(i + 1))))
            if i >= 0:
                seconds[name].append(time.perf_counter() - start)
        if len(answers) != 1:
            raise RuntimeError(f"the contenders disagree: {answers}")
    return seconds


def summary(seconds: dict[str, list[float]], target: float) -> dict[str, Any]:
    """Medians and quartiles in milliseconds, ratios of medians, and whether the target was met."""
    result: dict[str, Any] = {}
    for name, values in seconds.items():
        low, median, high = (1e3 * quartile for quartile in statistics.quantiles(values, n=4))
        result[name] = {"median_ms": round(median, 2), "quartiles_ms": [round(low, 2), round(high, 2)]}
    ours = statistics.median(seconds["sandboxed"])
    for name in ("cold_interpreter", "agentscope"):
        paired = sorted(b / a for a, b in zip(seconds["sandboxed"], seconds[name], strict=True))
        low, _, high = statistics.quantiles(paired, n=4)
        ratio = round(statistics.median(seconds[name]) / ours, 2)
        result[f"times_faster_than_{name}"] = {"ratio": ratio, "paired_quartiles": [round(low, 2), round(high, 2)]}
    result["target_ratio"] = target
    result["target_met"] = result["times_faster_than_cold_interpreter"]["ratio"] >= target
    return result


def processor_seconds() -> float:
    """Of all child processes that have ended, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def sandbox_life(calls: int) -> tuple[float, float]:
    """Wall seconds of ``calls`` calls in a row, and processor seconds of the sandbox's whole life."""
    before = processor_seconds()
    async with Sandbox(require="kernel") as sandbox:
        await sandbox.run("")
        start = time.perf_counter()
        for i in range(calls):
            await sandbox.run(CASES["arithmetic"][1](i))
        wall = time.perf_counter() - start
    return wall, processor_seconds() - before


async def back_to_back(calls: int) -> dict[str, Any]:
    """Milliseconds a call of plain arithmetic, without a pause between calls."""
    _, start_and_stop = await sandbox_life(0)
    wall, processor = await sandbox_life(calls)
    before, start = processor_seconds(), time.perf_counter()
    for i in range(calls):
        await cold_interpreter(CASES["arithmetic"][1](i))
    cold_wall, cold_processor = time.perf_counter() - start, processor_seconds() - before
    return {
        "calls": calls,
        "sandboxed": {"wall_ms": ms(wall, calls), "processor_ms": ms(processor - start_and_stop, calls)},
        "cold_interpreter": {"wall_ms": ms(cold_wall, calls), "processor_ms": ms(cold_processor, calls)},
    }


def ms(seconds: float, calls: int) -> float:
    """Milliseconds a call."""
    return round(1e3 * seconds / calls, 2)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "agentscope": agentscope.__version__,
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


async def main(rounds: int) -> dict[str, Any]:
    """Measures every case, prints a line for each, and returns the whole report."""
    report: dict[str, Any] = {"machine": machine(), "rounds": rounds, "cases": {}}
    for name, (preload, code_of, target) in CASES.items():
        async with Sandbox(require="kernel", preload=preload) as sandbox:
            report["features"] = list(sandbox.start().features)
            with use_sandbox(sandbox):
                report["cases"][name] = summary(await measure(code_of, rounds), target)
        case = report["cases"][name]
        ratios = [case[f"times_faster_than_{other}"]["ratio"] for other in ("cold_interpreter", "agentscope")]
        print(f"{name:10}  sandboxed {case['sandboxed']['median_ms']:6.1f} ms   "
              f"{ratios[0]:5.1f}x a cold interpreter   {ratios[1]:5.1f}x AgentScope's tool")  # fmt: skip
    report["back_to_back"] = await back_to_back(BACK_TO_BACK)
    report["load_average_at_end"] = round(os.getloadavg()[0], 2)
    return report


def docs_block(report: dict[str, Any]) -> str:
    """The measured part of docs/sandbox.md."""
    where = report["machine"]
    lines = [
        f"Medians of {report['rounds']} rounds on {where['cores']} cores, load average "
        f"{where['load_average_at_start']} at the start and {report['load_average_at_end']} at the end:",
        "",
        "| | sandboxed | cold | times faster than cold | than AgentScope's tool | target (cold) | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in report["cases"].items():
        ratios = [case[f"times_faster_than_{other}"]["ratio"] for other in ("cold_interpreter", "agentscope")]
        cells = [name, *(f"{case[who]['median_ms']} ms" for who in ("sandboxed", "cold_interpreter")), *ratios]
        cells += [f"{case['target_ratio']:g}", "yes" if case["target_met"] else "no"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    ours, cold = report["back_to_back"]["sandboxed"], report["back_to_back"]["cold_interpreter"]
    lines += [
        "",
        f"Without pauses, {report['back_to_back']['calls']} calls of arithmetic one after another: "
        f"{ours['wall_ms']} ms a call and {ours['processor_ms']} ms of processor time;",
        f"a cold interpreter {cold['wall_ms']} ms and {cold['processor_ms']} ms.",
    ]
    return "\n".join(lines) + "\n"


def write_docs(report: dict[str, Any]) -> None:
    """Replaces the measured part of docs/sandbox.md."""
    text, count = BLOCK.subn(lambda match: match[1] + docs_block(report) + match[2], DOCS.read_text())
    if count != 1:
        raise ValueError(f"{DOCS} has {count} blocks between 'begin tool_call' and 'end tool_call'; make it one")
    DOCS.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41, help="calls of each contender in each case")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--write-docs", action="store_true", help="measure nothing: put the result into the docs")
    options = parser.parse_args()
    if options.write_docs:
        write_docs(json.loads(options.output.read_text()))
    else:
        report = asyncio.run(main(options.rounds))
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")
