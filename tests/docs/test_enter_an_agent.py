"""The agent of the page "Enter an agent in ten minutes" runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autorl_bench.cli import main
from autorl_bench.home import Home
from autorl_bench.store import RunState, open_store
from tests.autorl_bench.small_bench import write_scenario
from tests.docs.test_links import ROOT

PAGE = (ROOT / "docs" / "autorl_bench" / "enter_an_agent.md").read_text(encoding="utf-8")


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    """The folder that the page makes."""
    [config, *_] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    [script] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    folder = tmp_path / "my_agents" / "one_shot"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "agent.py").write_text(script)
    return folder.parent


@pytest.mark.slow
def test_the_agent_of_the_page_trains_asks_and_is_scored(agents: Path, tmp_path: Path):
    write_scenario(tmp_path / "scenarios", ("{train: 12,", "{train: 64,"))
    home = tmp_path / "home"
    named = ["--agents", str(agents), "--scenarios", str(tmp_path / "scenarios"), "--home", str(home)]
    common = ["--agent", "one_shot", "--scenario", "tiny", *named]
    assert main(["run", *common, "--set", "steps=1", "--budget", "5m"]) == 0
    with open_store(Home(home).store) as store, store.read() as tx:
        [run] = tx.runs.all()
        [experiment] = tx.notebook.experiments(run.id)
        [query] = tx.submissions.dev_queries(run.id)
        assert run.state == RunState.SCORED
        assert (experiment.recipe["steps"], experiment.feedback[:4]) == (1, "dev:")
        assert query.experiment_id == experiment.id
        assert [record.flag.code for record in tx.ledger.flags(run.id)] == []
