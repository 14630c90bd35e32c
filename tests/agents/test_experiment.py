"""A training script ends by itself or is ended: at its time, its output, its disk, its memory, or early."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from agents.common.experiment import Limits, run_script, script_environment
from agents.common.launch import ColdLauncher, Start, WarmLauncher

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def lab(make_task, tmp_path):
    task = make_task()

    def run(code: str, limits: Limits | None = None, launcher=None, **options):
        script = tmp_path / "train.py"
        script.write_text(textwrap.dedent(code))
        report = tmp_path / "report.json"
        environment = script_environment(task, tmp_path / "model", 60, AUTORL_REPORT=str(report))
        start = Start(script, tmp_path, environment, tmp_path / "log.txt")
        return run_script(launcher or ColdLauncher(), start, limits or Limits(30), report=report, **options)

    return run


def test_a_script_that_ends_by_itself_has_succeeded(lab):
    ended = lab("print('done')")
    assert (ended.stop, ended.exit_code, ended.succeeded, ended.log) == ("exit", 0, True, "done\n")


def test_a_script_that_crashes_shows_where(lab):
    ended = lab("raise RuntimeError('no such luck')")
    assert ended.exit_code == 1
    assert not ended.succeeded
    assert "no such luck" in ended.log


def test_a_script_reports_in_json(lab):
    ended = lab("import json, os\njson.dump({'score': 0.5}, open(os.environ['AUTORL_REPORT'], 'w'))")
    assert ended.report == {"score": 0.5}


@pytest.mark.parametrize("written", ["{", "[1]", ""])
def test_a_report_that_is_no_object_is_none(lab, written):
    ended = lab(f"import os\nopen(os.environ['AUTORL_REPORT'], 'w').write({written!r})")
    assert ended.succeeded
    assert ended.report == {}


def test_a_script_is_given_its_contract_and_no_token(lab, monkeypatch):
    monkeypatch.setenv("AUTORL_TOKEN", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    ended = lab("import os, json\nprint(json.dumps(dict(os.environ)))")
    environment = json.loads(ended.log)
    assert {"AUTORL_BASE_MODEL", "AUTORL_TRAIN_DATA", "AUTORL_OUTPUT", "AUTORL_SEED", "AUTORL_SECONDS_LEFT"} <= set(
        environment
    )
    assert "secret" not in environment.values()


def test_a_script_that_never_ends_is_asked_to_and_may_leave_something(lab):
    code = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("saved", flush=True)))
        time.sleep(60)
    """
    ended = lab(code, Limits(1.0))
    assert (ended.stop, ended.succeeded, ended.log) == ("time", True, "saved\n")


def test_a_script_that_does_not_listen_is_killed_with_all_that_it_started(lab, tmp_path):
    code = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open("child", "w").write(str(child.pid))
        time.sleep(60)
    """
    ended = lab(code, Limits(1.5, grace=0.2))
    assert ended.stop == "time"
    assert ended.exit_code == -9
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _is_running(child):
            break
        time.sleep(0.02)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_script_that_prints_too_much_is_ended(lab):
    ended = lab("while True: print('x' * 1000)", Limits(30, grace=0.5, output=100_000))
    assert ended.stop == "output"
    assert len(ended.log) <= 4000


def test_a_script_that_fills_the_disk_is_ended(lab, tmp_path):
    code = "import time\nopen('big', 'wb').write(b'x' * 3_000_000)\ntime.sleep(60)"
    ended = lab(code, Limits(30, grace=0.5, disk=2_000_000), disk_of=tmp_path)
    assert ended.stop == "disk"


def test_a_script_that_wants_too_much_memory_fails_alone(lab):
    code = "import time\ntime.sleep(0.5)\nx = bytearray(2**30)"
    ended = lab(code, Limits(30, memory=2**28))
    assert ended.stop == "exit"
    assert "MemoryError" in ended.log


def test_a_watch_ends_a_script_early_and_says_why(lab):
    ended = lab("import time\ntime.sleep(60)", Limits(30, grace=0.5), watch=lambda: "it diverged")
    assert (ended.stop, ended.why) == ("early", "it diverged")


@pytest.mark.slow
def test_a_warm_start_is_like_a_cold_one(lab, tmp_path, monkeypatch):
    code = """
        import os, sys
        from pathlib import Path
        print(__name__, sys.argv == [__file__], Path.cwd() == Path(__file__).parent, "torch" in sys.modules)
        print(sys.path[0] == os.path.dirname(__file__), os.environ.get("SECRET"), os.getpid() == os.getsid(0))
        sys.exit(3)
    """
    monkeypatch.setenv("SECRET", "token")
    with WarmLauncher() as launcher:
        for _ in range(2):
            (tmp_path / "log.txt").unlink(missing_ok=True)
            ended = lab(code, Limits(60), launcher)
            assert ended.exit_code == 3
            assert ended.log == "__main__ True True True\nTrue None True\n"
        assert lab("raise ValueError('x')", Limits(60), launcher).exit_code == 1
        assert lab("import time\ntime.sleep(60)", Limits(0.5), launcher).stop == "time"


@pytest.mark.slow
def test_where_the_warm_interpreter_has_died_scripts_start_cold(lab):
    with WarmLauncher() as launcher:
        launcher._parent.kill()
        launcher._parent.wait()
        assert lab("print('done')", Limits(60), launcher).log == "done\n"


def test_a_script_dies_with_whoever_started_it(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    code = f"""
import os, time
from pathlib import Path
from agents.common.launch import ColdLauncher, Start
ColdLauncher().start(Start(Path({str(script)!r}), Path({str(tmp_path)!r}), dict(os.environ), Path("log.txt")))
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ) | {"PYTHONPATH": ROOT})
    for _ in range(500):
        if (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    for _ in range(250):
        if not _is_running(pid):
            break
        time.sleep(0.02)
    assert not _is_running(pid)
