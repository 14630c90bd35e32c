"""`env/entry.py`, run as a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENTRY = Path(__file__).parents[2] / "env" / "entry.py"


@pytest.fixture
def code(tmp_path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def start(code: Path, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess:
    variables = {
        "AUTORL_BASE_MODEL": str(code.parent),
        "AUTORL_TRAIN_DATA": str(code.parent),
        "AUTORL_OUTPUT": "output/model",
        "AUTORL_SEED": "1",
        "AUTORL_SECONDS_LEFT": "60.0",
    } | changes
    environment = {name: value for name, value in variables.items() if value is not None} | {"PATH": os.environ["PATH"]}
    command = [sys.executable, str(ENTRY), *arguments]
    return subprocess.run(command, cwd=code.parent, env=environment, capture_output=True, text=True, check=False)


def test_a_script_that_writes_has_trained(code):
    (code / "train.py").write_text(
        "import os\nopen(os.environ['AUTORL_OUTPUT'] + '/weights', 'w').write('1')\nprint('hi')"
    )
    done = start(code)
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert (code.parent / "output" / "model" / "weights").read_text() == "1"


def test_the_folder_of_the_code_may_be_named(code):
    (code / "train.py").write_text("raise SystemExit(5)")
    code.rename(code.with_name("other"))
    assert "train.py ended with exit status 5" in start(code, "other").stderr


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        (None, 81, "entry: there is no code/train.py"),
        ("raise ValueError('x')", 82, "ended with exit status 1"),
        ("import os\nos.kill(os.getpid(), 15)", 82, "was ended by SIGTERM"),
        ("", 83, "wrote nothing to AUTORL_OUTPUT"),
        ("import os\nopen(os.environ['AUTORL_OUTPUT'] + '/empty', 'w')", 83, "wrote nothing to AUTORL_OUTPUT"),
        ("import os\nos.symlink('/etc/passwd', os.environ['AUTORL_OUTPUT'] + '/x')", 83, "wrote nothing"),
    ],
)
def test_each_failure_has_its_status(code, script, status, message):
    if script is not None:
        (code / "train.py").write_text(script)
    done = start(code)
    assert done.returncode == status
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AUTORL_SEED": None, "AUTORL_OUTPUT": None}, "set AUTORL_OUTPUT, AUTORL_SEED"),
        ({"AUTORL_BASE_MODEL": "gone"}, "AUTORL_BASE_MODEL=gone does not exist"),
        ({"AUTORL_SEED": "one"}, "AUTORL_SEED is a whole number"),
    ],
)
def test_each_bad_variable_is_named(code, change, message):
    done = start(code, **change)
    assert done.returncode == 80
    assert message in done.stderr
