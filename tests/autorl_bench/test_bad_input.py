"""Bad input through the real command: exit status 2, and a message that says what is wrong and what to do."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from autorl_bench import cli
from tests.autorl_bench.small_bench import SCENARIO, SmallBench, autorl_bench, write_scenario

AGENT = "description: does nothing\ncommand: [python, agent.py]\narguments: {steps: 3}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an agent and the scenario ``tiny``."""
    monkeypatch.setenv(cli.STORE_VARIABLE, "")
    write_scenario(tmp_path / "scenarios")
    agent = tmp_path / "agents" / "idle"
    agent.mkdir(parents=True)
    (agent / "config.yaml").write_text(AGENT)
    (agent / "agent.py").write_text("")
    return tmp_path


class Command:
    """The command in this process, on ``place``."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.common = ["--home", str(place / "home"), "--scenarios", str(place / "scenarios")]
        self.common += ["--agents", str(place / "agents")]

    def __call__(self, verb: str, *arguments: object) -> tuple[int, str]:
        """Exit status and what was said on stderr."""
        self._capsys.readouterr()
        try:
            status = cli.main([verb, *self.common, *map(str, arguments)])
        except SystemExit as exit_:  # argparse
            status = int(str(exit_.code))
        said = self._capsys.readouterr().err
        assert "Traceback" not in said
        return status, said

    def refuses(self, verb: str, *arguments: object) -> str:
        status, said = self(verb, *arguments)
        assert status == 2, said
        assert "error: " in said
        return said


@pytest.fixture
def command(place: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(place, capsys)


# --- names --------------------------------------------------------------------------------------------------------


def test_an_unknown_scenario_is_answered_with_the_known_ones(command: Command) -> None:
    said = command.refuses("run", "--agent", "idle", "--scenario", "nano_gms")
    assert "no scenario 'nano_gms'" in said and "gsm8k" in said and "did you mean 'nano_gsm'" in said


def test_an_unknown_agent_is_answered_with_the_known_ones(command: Command) -> None:
    said = command.refuses("run", "--agent", "idel")
    assert "no agent 'idel'" in said and "did you mean 'idle'" in said


def test_a_run_without_an_agent_says_how_to_name_one(command: Command) -> None:
    said = command.refuses("run")
    assert "--agent" in said and "autorl-bench agents" in said


def test_an_argument_that_the_agent_does_not_declare(command: Command) -> None:
    said = command.refuses("run", "--agent", "idle", "--set", "step=4")
    assert "no argument 'step'" in said and "did you mean 'steps'" in said


def test_an_argument_without_a_value(command: Command) -> None:
    assert "'steps' should be key=value" in command.refuses("run", "--agent", "idle", "--set", "steps")


def test_an_unknown_command_lists_all(command: Command) -> None:
    assert "redteam" in command.refuses("runn")


def test_an_unknown_runner_lists_the_known_ones(command: Command) -> None:
    said = command.refuses("run", "--agent", "idle", "--scenario", "tiny", "--runner", "cloud")
    assert "cloud" in said and "local" in said and "docker" in said and "ray" in said


@pytest.mark.parametrize("verb", ["run", "end", "finish"])
def test_an_unknown_run(command: Command, verb: str) -> None:
    arguments = ["--resume", "tiny_nowhere"] if verb == "run" else ["tiny_nowhere"]
    assert "no run 'tiny_nowhere'" in command.refuses(verb, *arguments)


def test_a_run_id_that_is_a_path_makes_no_folder(place: Path, command: Command) -> None:
    command.refuses("end", "../../elsewhere")
    assert not (place / "elsewhere").exists()


def test_a_report_on_an_unknown_scenario(command: Command) -> None:
    assert "no scenario 'nothing'" in command.refuses("report", "--scenario", "nothing")


# --- files --------------------------------------------------------------------------------------------------------


def test_a_malformed_scenario_is_named_with_its_line(place: Path, command: Command) -> None:
    file = place / "scenarios" / "bad.yaml"
    file.write_text(SCENARIO.replace("metric: accuracy", "metric: accuracy:"))
    assert f"{file}:5" in command.refuses("run", "--agent", "idle", "--scenario", "bad")


def test_a_wrong_value_in_a_scenario_is_named_with_its_line(place: Path, command: Command) -> None:
    file = place / "scenarios" / "bad.yaml"
    file.write_text(SCENARIO.replace("metric: accuracy", "metric: precision"))
    said = command.refuses("run", "--agent", "idle", "--scenario", "bad")
    assert f"{file}:5" in said and "metric" in said and "accuracy" in said


def test_a_checker_that_is_not_there_is_named_before_anything_is_run(place: Path, command: Command) -> None:
    (place / "scenarios" / "tiny_words.py").unlink()
    said = command.refuses("run", "--agent", "idle", "--scenario", "tiny")
    assert "tiny_words.py" in said
    assert not list((place / "home" / "workspace").iterdir())


def test_an_agent_without_a_start_command(place: Path, command: Command) -> None:
    file = place / "agents" / "idle" / "config.yaml"
    file.write_text("description: does nothing\n")
    said = command.refuses("run", "--agent", "idle")
    assert str(file) in said and "command: [python, agent.py]" in said


def test_an_agent_with_a_key_that_is_none(place: Path, command: Command) -> None:
    file = place / "agents" / "idle" / "config.yaml"
    file.write_text(AGENT + "restart: 3\n")
    said = command.refuses("run", "--agent", "idle")
    assert f"{file}:4" in said and "restarts" in said


def test_folders_of_scenarios_and_agents_that_are_not_there(place: Path, command: Command) -> None:
    assert str(place / "none") in command.refuses("scenarios", "--scenarios", place / "none")
    assert str(place / "none") in command.refuses("agents", "--agents", place / "none")


def test_gsm8k_lists_each_file_that_it_misses_and_how_to_get_it(place: Path, command: Command) -> None:
    said = command.refuses("run", "--agent", "idle", "--scenario", "gsm8k")
    home = place / "home"
    for file in ("assets/models/Qwen2.5-3B-Instruct", "vault/gsm8k/train.jsonl", "vault/gsm8k/test.jsonl"):
        assert str(home / file) in said
    assert "hf download Qwen/Qwen2.5-3B-Instruct" in said
    assert said.count("curl -fL --create-dirs") == 2


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget", ["0", "0s", "-5", "ten", "", "5 m", "1d", "1e3", "nan", "inf", "9999999h", "9" * 400]
)
def test_a_budget_that_is_no_time(command: Command, budget: str) -> None:
    said = command.refuses("run", "--agent", "idle", f"--budget={budget}")
    assert "--budget" in said and "90s, 10m or 12h" in said


@pytest.mark.parametrize("budget", ["0.001", "4.9s"])
def test_a_budget_in_which_no_agent_can_be_run(place: Path, command: Command, budget: str) -> None:
    said = command.refuses("run", "--agent", "idle", "--scenario", "tiny", "--budget", budget)
    assert "--budget is" in said and "at least 5 s" in said
    assert not list((place / "home" / "workspace").iterdir())


def test_a_scenario_whose_own_budget_is_too_small_names_its_key(place: Path, command: Command) -> None:
    write_scenario(place / "scenarios", ("wall_seconds: 120", "wall_seconds: 1"))
    assert "budget.wall_seconds" in command.refuses("run", "--agent", "idle", "--scenario", "tiny")


@pytest.mark.parametrize("seeds", ["0", "-1", "many"])
def test_a_number_of_seeds_that_is_none(command: Command, seeds: str) -> None:
    assert "--seeds" in command.refuses("run", "--agent", "idle", f"--seeds={seeds}")


@pytest.mark.parametrize("option", ["--first-seed=-1", "--first-seed=99999999999"])
def test_a_seed_that_is_none(command: Command, option: str) -> None:
    assert "--first-seed" in command.refuses("run", "--agent", "idle", option)


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_a_port_that_is_none(command: Command, port: str) -> None:
    assert "no port" in command.refuses("serve", f"--port={port}")


# --- places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["serve", "run"])
def test_a_port_in_use(command: Command, verb: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        more = ["--agent", "idle", "--scenario", "tiny"] if verb == "run" else []
        said = command.refuses(verb, "--port", port, *more)
    assert f"port {port} is in use" in said and "--port" in said


def test_an_address_of_another_machine(command: Command) -> None:
    assert "cannot listen at 192.0.2.1" in command.refuses("serve", "--host", "192.0.2.1", "--port", 0)


def test_a_home_that_is_a_file(place: Path, command: Command) -> None:
    (place / "file").write_text("kept")
    assert str(place / "file") in command.refuses("report", "--home", place / "file")
    assert (place / "file").read_text() == "kept"


def test_a_home_that_cannot_be_written(place: Path, command: Command) -> None:
    read_only = Path("/sys/kernel")  # even root makes no folder there
    if os.geteuid() != 0:
        (read_only := place / "read_only").mkdir(mode=0o500)
    said = command.refuses("report", "--home", read_only)
    assert f"cannot write {read_only}" in said


def test_a_store_of_another_version(place: Path, command: Command) -> None:
    small = SmallBench.make(place / "older")
    small.bench.store.close()
    with sqlite3.connect(small.home.store) as connection:
        connection.execute("UPDATE autorl_bench_version SET version_num = '9999'")
    before = small.home.store.read_bytes()
    said = command.refuses("report", "--home", small.home.root)
    assert "another version of AutoRL-Bench" in said and "9999" in said
    assert small.home.store.read_bytes() == before


def test_another_programmes_database(place: Path, command: Command) -> None:
    with sqlite3.connect(place / "other.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = (place / "other.db").read_bytes()
    said = command.refuses("report", "--store", place / "other.db")
    assert "another program's database" in said and "recipes" in said
    assert (place / "other.db").read_bytes() == before


def test_a_store_that_is_no_database(place: Path, command: Command) -> None:
    (place / "notes.txt").write_text("no database at all\n" * 100)
    assert "notes.txt" in command.refuses("report", "--store", place / "notes.txt")


@pytest.mark.parametrize("url", ["mysql://root@localhost/bench", "postgresql://nobody:secret@127.0.0.1:1/none"])
def test_a_store_that_cannot_be_reached_does_not_show_its_password(command: Command, url: str) -> None:
    said = command.refuses("report", "--store", url)
    assert "secret" not in said


# --- runs that are over, or somebody else's -----------------------------------------------------------------------


def test_a_run_that_has_ended_is_not_resumed(place: Path, command: Command) -> None:
    small = SmallBench.make(place / "bench")
    run, _ = small.start()
    assert command("end", run.id, "--home", small.home.root)[0] == 0
    said = command.refuses("run", "--resume", run.id, "--home", small.home.root)
    assert run.id in said and "has ended (interrupted)" in said


def test_a_run_that_was_not_begun_by_hand_is_not_finished_by_hand(place: Path, command: Command) -> None:
    small = SmallBench.make(place / "bench")
    run, _ = small.start()
    said = command.refuses("finish", run.id, "--home", small.home.root)
    assert f"--resume {run.id}" in said


def test_the_module_says_the_same_as_a_process(place: Path) -> None:
    done = subprocess.run(
        autorl_bench("run", "--home", place / "home", "--agent", "nobody"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no agent 'nobody'")
    assert "Traceback" not in done.stderr
