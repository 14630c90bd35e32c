"""The command's small ones: help, lists, reports, and a run that somebody drives by hand."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from autorl_bench import cli
from autorl_bench.client import BenchClient
from autorl_bench.grader.worker import Grader
from autorl_bench.store import RunState
from tests.autorl_bench.operate.operator import await_end, hear_ctrl_c
from tests.autorl_bench.small_bench import Served, SmallBench, autorl_bench, change_model, children, write_scenario

HEAVY = {"torch", "transformers", "inspect_ai", "sqlalchemy", "alembic", "fastapi", "uvicorn", "numpy", "pydantic"}


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.STORE_VARIABLE, "")


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What a command prints, in this process."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments)]) == status
    return capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    programme = (
        "import sys; from autorl_bench import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: print(end.code, *sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, check=True)
    status, *modules = done.stderr.split()
    assert status == "0"
    assert not HEAVY & set(modules)
    for verb in ("run", "serve", "report", "scenarios", "agents", "start", "finish", "end", "redteam", "grader"):
        assert re.search(rf"^ +{verb}\b", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("verb", ["run", "serve", "report", "scenarios", "agents", "start", "finish", "end", "redteam"])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert "--home" in capsys.readouterr().out


def test_scenarios_are_listed_with_what_they_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "scenarios", "--home", tmp_path).splitlines()
    by_name = {line.split()[0]: line for line in lines}
    assert {"gsm8k", "nano_code", "nano_gsm"} <= set(by_name)
    assert "files are missing: autorl-bench scenarios gsm8k" in by_name["gsm8k"]
    assert "missing" not in by_name["nano_gsm"]


def test_one_scenario_is_shown_with_each_file_that_it_misses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said(capsys, "scenarios", "gsm8k", "--home", tmp_path)
    details, _, missing = shown.partition("missing: ")
    assert json.loads(details)["baseline_score"] == 62.47
    assert missing.count("missing: ") == 2
    assert "hf download Qwen/Qwen2.5-3B-Instruct" in missing
    assert not list(tmp_path.iterdir()), "looking makes nothing"


def test_a_scenario_of_ones_own_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenario(tmp_path / "mine", name="my_own")
    assert "my_own" in said(capsys, "scenarios", "--scenarios", tmp_path / "mine")


def test_agents_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "do_nothing" in said(capsys, "agents")
    shown = said(capsys, "agents", "do_nothing")
    assert "command    python agent.py" in shown and "folder" in shown


def test_a_report_without_runs_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--home", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "autorl-bench run --agent" in printed.out + printed.err


def test_reports_print_boards_and_json(small_bench: SmallBench, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = small_bench.start()
    small_bench.model(run)
    small_bench.bench.finish(run.id)
    Grader(small_bench.bench).work_once()
    home = ("--home", small_bench.home.root, "--scenarios", small_bench.scenarios)
    assert "tester" in said(capsys, "report", *home)
    assert "tester" in said(capsys, "report", *home, "--scenario", "tiny", "--json")
    assert json.loads(said(capsys, "report", *home, "--scenario", "tiny", "--json"))
    folder = small_bench.home.root / "board"
    said(capsys, "report", *home, "--export", folder)
    assert (folder / "index.html").is_file()


def variables(exports: str) -> dict[str, str]:
    """What a shell would make of the lines."""
    words = (shlex.split(line) for line in exports.splitlines())
    return dict(word.split("=", 1) for export, word in words if export == "export")


def test_a_run_by_hand_from_start_to_finish(served_bench: Served, capsys: pytest.CaptureFixture[str]) -> None:
    small = served_bench.small
    home = ("--home", small.home.root, "--scenarios", small.scenarios)
    start = ("start", *home, "--scenario", "tiny", "--name", "me", "--server", served_bench.address)
    given = variables(said(capsys, *start))
    workspace = Path(given["AUTORL_WORKSPACE"])
    assert "curl" in (workspace / "README.md").read_text()
    assert Path(given["AUTORL_TRAIN_DATA"]).is_file()
    change_model(Path(given["AUTORL_BASE_MODEL"]), workspace / "output" / "model")
    with BenchClient.from_environment(given) as client:
        assert client.status().agent == "me"
        assert client.evaluate("output/model").score is not None
    printed = said(capsys, "finish", *home, given["AUTORL_RUN"])
    assert printed.startswith("score ")
    assert small.home.feedback(given["AUTORL_RUN"]).name in printed
    run = small.run(given["AUTORL_RUN"])
    assert (run.state, run.isolation) == (RunState.SCORED, "none")
    assert said(capsys, "finish", *home, run.id) == printed, "asking again changes nothing"


def test_a_run_by_hand_without_a_model_ends_invalid(
    small_bench: SmallBench, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", small_bench.home.root, "--scenarios", small_bench.scenarios)
    given = variables(said(capsys, "start", *home, "--scenario", "tiny"))
    printed = said(capsys, "finish", *home, given["AUTORL_RUN"], status=1)
    assert printed.startswith("invalid, no score: not_found")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_server_serves_where_it_says_and_takes_its_grader_along(tmp_path: Path, number: signal.Signals) -> None:
    command = autorl_bench("serve", "--home", tmp_path, "--port", 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c) as process:
        assert process.stdout is not None
        giving_up = threading.Timer(300, process.kill)
        giving_up.start()
        try:
            address = process.stdout.readline().split()[2]
            with httpx.Client(transport=httpx.HTTPTransport(retries=20), trust_env=False, timeout=60) as http:
                assert http.get(f"{address}/healthz").json() == {"status": "ok"}
                assert "AutoRL-Bench" in http.get(address).text
            [grader] = children(process.pid, "grader")
            process.send_signal(number)
            assert process.wait(120) in (0, 130, -number)
            await_end([grader])
        finally:
            process.kill()
            giving_up.cancel()
