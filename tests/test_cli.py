"""The `astuner` command as a user meets it: what it prints, and its exit status."""

import io
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

import astune.backbone
from astune import cli
from astune.config import AstuneConfig, load_config
from astune.errors import ConfigError, SandboxError
from astune.leftovers import MARK

#: Imports that take longer than the whole of `astuner --help` may.
HEAVY = ["torch", "transformers", "numpy", "pydantic", "yaml", "rich", "asyncio", "fastapi", "agentscope"]
MATH_AGENT = "tutorial/example_math_agent/math_agent.yaml"


def astuner(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    command = Path(sysconfig.get_path("scripts")) / "astuner"
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def loaded_after(*arguments: str, cwd: Path) -> set[str]:
    """The heavy packages that a command has imported by its end."""
    code = (
        "import sys; from astune.cli import main\n"
        "try: main(sys.argv[2:])\n"
        "except SystemExit: pass\n"
        "print(*[name for name in sys.argv[1].split() if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, " ".join(HEAVY), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return set(result.stderr.splitlines()[-1].split())


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("astune:\n  trainer:\n    steps: 3\n")
    return path


class TestHelp:
    def test_it_names_the_commands_and_backbones(self):
        result = astuner("--help")
        assert result.returncode == 0
        for words in ["--conf", "--backbone", "--with-ray", "--with-logview", "--kill", "astuner config", "trinity"]:
            assert words in result.stdout

    def test_it_imports_nothing_heavy(self, project_root):
        assert loaded_after("--help", cwd=project_root) == set()

    def test_checking_a_configuration_does_not_import_torch(self, project_root):
        loaded = loaded_after("config", "--conf", MATH_AGENT, cwd=project_root)
        assert loaded.isdisjoint({"torch", "transformers", "numpy", "agentscope"})

    def test_a_backbone_that_is_not_there_is_answered_without_loading_anything(self, project_root):
        assert loaded_after("--backbone", "trinity", cwd=project_root) == set()


class TestConfig:
    def test_the_resolved_configuration_loads_again(self, conf, tmp_path):
        result = astuner("config", "--conf", str(conf), "trainer.group_size=4")
        again = tmp_path / "again.yaml"
        again.write_text(result.stdout)
        assert load_config(again) == load_config(conf, ["trainer.group_size=4"])

    def test_the_schema_is_json(self):
        schema = json.loads(astuner("config", "--schema").stdout)
        assert schema["required"] == ["astune"]

    def test_the_configuration_of_the_main_job_is_valid(self, project_root):
        result = astuner("config", "--conf", MATH_AGENT, cwd=project_root)
        config = yaml.safe_load(result.stdout)["astune"]
        assert (config["name"], config["model"]["path"], config["task_reader"]["type"]) == (
            "math_agent",
            "nano",
            "nano_gsm",
        )


class TestBadInput:
    def test_a_mistake_is_one_message_on_stderr_and_status_2(self, conf):
        result = astuner("--conf", str(conf), "trainer.stepps=4")
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr == (
            "error: command line, trainer.stepps=4: unknown key 'astune.trainer.stepps'; did you mean 'steps'?\n"
        )

    def test_a_missing_file_is_named(self, tmp_path):
        result = astuner("--conf", str(tmp_path / "absent.yaml"))
        assert (result.returncode, "absent.yaml: there is no such configuration file" in result.stderr) == (2, True)

    def test_no_configuration_shows_an_example(self):
        result = astuner()
        assert (result.returncode, result.stderr) == (
            2,
            f"error: --conf FILE is missing; for example: --conf {MATH_AGENT}\n",
        )

    @pytest.mark.parametrize("backbone", ["trinity", "verl", "ray", "trl"])
    def test_a_backbone_that_is_not_there_is_refused_by_name(self, conf, backbone):
        result = astuner("--conf", str(conf), f"--backbone={backbone}", "--with-ray")
        assert result.returncode == 2
        assert f"there is no backbone '{backbone}' in this version: use --backbone local or debug" in result.stderr

    def test_an_unknown_backbone_is_answered_with_the_nearest(self, conf):
        result = astuner("--conf", str(conf), "--backbone", "debgu")
        assert (result.returncode, result.stderr) == (2, "error: unknown backbone 'debgu'; did you mean 'debug'?\n")

    def test_ray_is_refused_where_it_would_do_nothing(self, conf):
        result = astuner("--conf", str(conf), "--with-ray")
        assert (result.returncode, "--backbone local runs without it" in result.stderr) == (2, True)

    def test_an_unknown_option_is_refused(self, conf):
        assert astuner("--conf", str(conf), "--backbones", "local").returncode == 2

    def test_a_missing_checkpoint_is_named(self, conf, tmp_path):
        result = astuner("eval", "--conf", str(conf), "--checkpoint", str(tmp_path / "gone"))
        assert (result.returncode, "gone: there is no such checkpoint" in result.stderr) == (2, True)

    def test_a_missing_task_file_is_named(self, conf, tmp_path):
        result = astuner(
            "eval", "--conf", str(conf), "--checkpoint", str(tmp_path), "--tasks", str(tmp_path / "gone.jsonl")
        )
        assert (result.returncode, "gone.jsonl: there is no such task file" in result.stderr) == (2, True)

    def test_the_traceback_can_be_asked_for(self, conf):
        result = astuner("--conf", str(conf), "--traceback", "trainer.stepps=4")
        assert "Traceback (most recent call last)" in result.stderr


class TestKill:
    def test_nothing_to_end_is_no_failure(self):
        result = astuner("--kill=no_process_has_this_name")
        assert (result.returncode, result.stdout) == (
            0,
            "nothing to end: no process of an earlier run matches 'no_process_has_this_name'\n",
        )

    def test_a_pattern_that_is_none_is_refused(self):
        assert astuner("--kill=(").returncode == 2


class TestLauncher:
    def test_it_takes_the_same_arguments(self, project_root, conf):
        command = [sys.executable, "launcher.py", "--backbone", "debug", "--conf", str(conf), "trainer.stepps=4"]
        result = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
        assert (result.returncode, "did you mean 'steps'?" in result.stderr) == (2, True)

    def test_the_debugger_starts_it_in_a_terminal(self, project_root):
        configurations = json.loads((project_root / ".vscode/launch.json").read_text())["configurations"]
        for configuration in configurations:
            assert configuration["type"] == "debugpy"
            assert configuration["program"].endswith("/launcher.py")
            assert configuration["console"] == "integratedTerminal"
            assert configuration["args"][:3] == ["--backbone", "debug", "--conf"]


class FakeBackbone:
    """Stands in for `astune.backbone`: says what it was given, and ends as it is told."""

    def __init__(self, outcome: int | BaseException = 0) -> None:
        self.outcome = outcome
        self.arguments: tuple[object, ...] = ()
        self.mark = ""

    def __call__(self, *arguments: object, config_text: str = "") -> int:
        self.arguments = arguments
        self.mark = os.environ[MARK]
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class TestHandingOver:
    @pytest.fixture
    def fake(self, monkeypatch):
        fake = FakeBackbone()
        monkeypatch.setenv(MARK, "")  # restores the environment afterwards
        monkeypatch.setattr(astune.backbone, "run", fake, raising=False)
        monkeypatch.setattr(astune.backbone, "evaluate", fake, raising=False)
        return fake

    def test_overrides_may_stand_anywhere(self, fake, conf):
        status = cli.main(["trainer.steps=5", "--conf", str(conf), "seed=2", "--backbone", "debug", "name=x"])
        config, backbone = fake.arguments
        assert isinstance(config, AstuneConfig)
        assert (status, backbone, config.trainer.steps, config.seed, config.name) == (0, "debug", 5, 2, "x")

    def test_the_status_of_the_run_is_that_of_the_command(self, fake, conf):
        fake.outcome = 1
        assert cli.main(["--conf", str(conf)]) == 1

    def test_what_the_run_starts_is_marked_as_its_own(self, fake, conf):
        cli.main(["--conf", str(conf)])
        assert fake.mark.startswith(f"{os.getpid()}:")

    def test_ctrl_c_is_no_failure_with_a_traceback(self, fake, conf, capsys):
        fake.outcome = KeyboardInterrupt()
        assert cli.main(["--conf", str(conf)]) == 130
        assert capsys.readouterr().err == "\nInterrupted.\n"

    @pytest.mark.parametrize(("error", "status"), [(ConfigError("no such judge"), 2), (SandboxError("no Landlock"), 1)])
    def test_an_error_of_the_run_is_one_message(self, fake, conf, capsys, error, status):
        fake.outcome = error
        assert cli.main(["--conf", str(conf)]) == status
        assert capsys.readouterr().err == f"error: {error}\n"

    def test_a_bug_keeps_its_traceback(self, fake, conf):
        fake.outcome = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            cli.main(["--conf", str(conf)])

    def test_the_log_view_is_told_first(self, fake, conf, capsys):
        assert cli.main(["--conf", str(conf), "--with-logview"]) == 0
        assert capsys.readouterr().out.startswith("log view: http://127.0.0.1:")

    def test_without_a_terminal_the_log_view_says_that_it_ends(self, fake, conf, capsys, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO())
        cli.main(["--conf", str(conf), "--with-logview"])
        first, last = capsys.readouterr().out.splitlines()
        assert (first.endswith("/ (until the run ends)"), last) == (True, "The log view ended with the run.")

    def test_without_a_terminal_the_file_to_open_is_named(self, fake, conf, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr("sys.stdin", io.StringIO())
        report = tmp_path / "run" / "report.html"
        report.parent.mkdir()
        report.write_text("<p>done</p>")
        cli.main(["--conf", str(conf), "--with-logview", f"save_dir={tmp_path}", "name=run"])
        assert capsys.readouterr().out.splitlines()[-1] == f"The log view ended with the run; open {report}."

    def test_eval_hands_over_checkpoint_and_tasks(self, fake, conf, tmp_path):
        tasks = tmp_path / "tasks.jsonl"
        tasks.write_text("")
        assert cli.main(["eval", "--conf", str(conf), "--checkpoint", str(tmp_path), "--tasks", str(tasks)]) == 0
        assert fake.arguments == (load_config(conf), tmp_path, tasks)
