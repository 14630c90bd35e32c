"""Agents are folders with a config.yaml; what is wrong with one is said with file and line, before anything runs."""

from pathlib import Path

import pytest

from astune.errors import ConfigError
from autorl_bench.agents import BUNDLED_FOLDER, AgentRegistry, UnknownAgent, load_agent
from autorl_bench.jobs.types import Endpoint

MINIMAL = "description: Does its best.\ncommand: [python, agent.py, --fast]\n"


@pytest.fixture
def agent_folder(tmp_path):
    def make(text: str = MINIMAL, name: str = "small", files: tuple[str, ...] = ("agent.py",)) -> Path:
        folder = tmp_path / "agents" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(text)
        for file in files:
            (folder / file).write_text("print('hello')\n")
        return folder

    return make


def test_every_bundled_agent_can_be_read_and_started():
    registry = AgentRegistry()
    assert {"do_nothing", "random_search", "rdagent", "reference_recipe", "command_line"} <= set(registry.ids)
    for agent_id in registry.ids:
        agent = registry.get(agent_id)
        interpreter, script, *_ = agent.command("/usr/bin/python3")
        assert interpreter == "/usr/bin/python3"
        assert Path(script).is_relative_to(BUNDLED_FOLDER / agent_id)
        assert all(path.exists() for path in agent.readable)


def test_an_agent_of_a_further_folder_stands_beside_the_bundled_ones(agent_folder):
    folder = agent_folder()
    registry = AgentRegistry([folder.parent])
    assert "small" in registry.ids
    agent = registry.get("small")
    assert agent.config.restarts == 2
    assert agent.command("PY") == ("PY", str(folder / "agent.py"), "--fast")
    assert agent.readable == (folder,)


def test_a_folder_without_a_configuration_is_no_agent(agent_folder):
    folder = agent_folder()
    (folder.parent / "notes").mkdir()
    assert "notes" not in AgentRegistry([folder.parent]).ids


def test_an_unknown_agent_is_answered_with_the_known_ones_and_the_nearest(agent_folder):
    with pytest.raises(UnknownAgent, match="did you mean 'small'") as caught:
        AgentRegistry([agent_folder().parent]).get("smal")
    assert "small" in caught.value.known


def test_a_further_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none does not exist"):
        AgentRegistry([tmp_path / "none"])


def test_a_further_folder_cannot_replace_a_bundled_agent(agent_folder):
    with pytest.raises(ConfigError, match="the agent id 'do_nothing' is taken"):
        AgentRegistry([agent_folder(name="do_nothing").parent])


def test_a_folder_whose_name_is_no_id_is_refused(agent_folder):
    with pytest.raises(ConfigError, match="'My Agent' is no agent id"):
        AgentRegistry([agent_folder(name="My Agent").parent])


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("description: x\n", None, "the agent has no start command; add a line like command: \\[python, agent.py\\]"),
        ("description: x\ncommand: []\n", 2, "the agent has no start command; give a list"),
        ("description: x\ncommand: python agent.py\n", 2, "command should be a valid list"),
        ("description: x\ncommand: [python, other.py]\n", 2, "command starts other.py, which is not in"),
        (MINIMAL + "restart: 1\n", 3, "unknown key 'restart'; did you mean 'restarts'?"),
        (MINIMAL + "restarts: -1\n", 3, "restarts should be greater than or equal to 0"),
        (MINIMAL + "environment: [OPENAI KEY]\n", 3, "environment.0 should match pattern"),
        (MINIMAL + "environment: [AUTORL_TOKEN]\n", 3, "AUTORL_TOKEN is set by the benchmark"),
        (MINIMAL + "endpoints: [{host: localhost}]\n", 3, "give `host` and `port`, or `address_in`"),
        (MINIMAL + "endpoints: [{host: localhost, port: 0}]\n", 3, "endpoints.0.port should be greater than 0"),
        (MINIMAL + "endpoints: [{address_in: URL}]\n", None, "endpoints name the variable URL: list it"),
        (MINIMAL + "shared: [nowhere]\n", 3, "there is no folder .*nowhere"),
        (MINIMAL + "readable: [bin]\n", 3, "'bin' should be an absolute path"),
        ("- a list\n", 1, "a configuration is a mapping of keys"),
        ("description: [\n", 2, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(agent_folder, text, line, message):
    folder = agent_folder(text)
    place = f"{folder / 'config.yaml'}:" + (f"{line}: " if line else "")
    with pytest.raises(ConfigError, match=message) as caught:
        load_agent(folder)
    assert str(caught.value).startswith(place)


def test_a_configuration_that_is_no_text_is_refused(agent_folder):
    folder = agent_folder()
    (folder / "config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a UTF-8 text"):
        load_agent(folder)


def test_only_declared_variables_are_passed_on(agent_folder):
    agent = load_agent(agent_folder(MINIMAL + "environment: [MODEL_NAME, UNSET]\n"))
    assert agent.environment({"MODEL_NAME": "m", "SECRET": "s"}) == {"MODEL_NAME": "m"}


@pytest.mark.parametrize(
    "address, endpoint",
    [
        ("http://127.0.0.1:8000/v1", Endpoint("127.0.0.1", 8000)),
        ("https://models.example/v1", Endpoint("models.example", 443)),
        ("http://models.example", Endpoint("models.example", 80)),
    ],
)
def test_an_endpoint_is_taken_from_the_variable_that_holds_its_address(agent_folder, address, endpoint):
    agent = load_agent(agent_folder(MINIMAL + "environment: [URL]\nendpoints: [{address_in: URL}]\n"))
    assert agent.endpoints({"URL": address}) == (endpoint,)
    assert agent.endpoints({}) == ()


@pytest.mark.parametrize("address", ["somewhere", "ftp://models.example", "http://", "http://host:99999"])
def test_a_variable_without_an_address_is_named_and_not_repeated(agent_folder, address):
    agent = load_agent(agent_folder(MINIMAL + "environment: [URL]\nendpoints: [{address_in: URL}]\n"))
    with pytest.raises(ConfigError, match="the variable URL should hold an address"):
        agent.endpoints({"URL": address})


def test_arguments_are_overridden_one_by_one(agent_folder):
    agent = load_agent(agent_folder(MINIMAL + "arguments: {driver: search, rounds: 3, model: null}\n"))
    changed = agent.with_arguments(["driver=llm", "rounds=5"])
    assert changed.config.arguments == {"driver": "llm", "rounds": 5, "model": None}
    assert agent.config.arguments["rounds"] == 3


@pytest.mark.parametrize(
    "override, message",
    [
        ("driver", "should be key=value"),
        ("drivr=llm", "no argument 'drivr'; did you mean 'driver'"),
        ("zzz=1", "it has driver"),
        ("driver=[", "the value is not YAML"),
    ],
)
def test_an_argument_that_the_agent_does_not_have_is_refused(agent_folder, override, message):
    agent = load_agent(agent_folder(MINIMAL + "arguments: {driver: search}\n"))
    with pytest.raises(ConfigError, match=message):
        agent.with_arguments([override])
