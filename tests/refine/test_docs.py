"""The pages on the refine stage: their Python runs, their files exist, their prompts and options are the real ones."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from astune.refine.batch import RefineOptions
from astune.refine.prompts import bundled_prompts
from astune.refine.self_refine_agent import SelfRefineAgent
from astune.refine.types import Sample, SampleRequest
from tests.refine.fake_stage import FakeScriptedSampler, FakeStage

AGENT_PAGE, SAMPLER_PAGE = "docs/SELF_REFINE_ARCHITECTURE.md", "docs/SAMPLER_ARCHITECTURE.md"


def python_of(root: Path, page: str, having: str) -> str:
    """The one Python block of a page that holds ``having``."""
    blocks = re.findall(r"```python\n(.*?)```", (root / page).read_text(encoding="utf-8"), re.DOTALL)
    [block] = [block for block in blocks if having in block]
    return block


@pytest.fixture
def stage() -> FakeStage:
    return FakeStage(["right 0", "bad 1", "bad 2"], lambda request: f"{'right' if request.row == 1 else 'bad'} again")


def test_the_custom_agent_of_the_page_refines_wrong_rows(project_root: Path, stage: FakeStage):
    scope: dict[str, Any] = {}
    exec(python_of(project_root, AGENT_PAGE, "class MyCustomSamplingAgent"), scope)
    agent = scope["MyCustomSamplingAgent"](stage.trainer, hint="Look again.")
    batch = stage.batch() | {"correctness_mask": torch.tensor(stage.mask)}
    assert agent.refine_batch(**batch) == ["right 0", "right again", "bad again"]
    assert stage.sampler.requests[0].messages[-1]["content"] == "Look again."


def test_the_engine_sampler_of_the_page_samples(project_root: Path, capsys: pytest.CaptureFixture[str]):
    scope: dict[str, Any] = {}
    exec(python_of(project_root, SAMPLER_PAGE, "EngineSampler(LocalEngine"), scope)
    assert scope["sample"].completion_ids
    assert capsys.readouterr().out.strip()


def test_the_critic_of_the_page_is_another_sampler(project_root: Path, stage: FakeStage):
    scope: dict[str, Any] = {"trainer": stage.trainer}
    exec(python_of(project_root, SAMPLER_PAGE, "critic_sampler=critic"), scope)
    assert scope["agent"]._critic_sampler is scope["critic"]


def test_the_rounds_of_the_page_can_be_driven_by_hand(project_root: Path, stage: FakeStage):
    scope: dict[str, Any] = {
        "prompts": stage.batch()["original_prompts"],
        "first_attempts": stage.first,
        "mask": [not correct for correct in stage.mask],
        "sampler": stage.sampler,
        "grade": stage.grade,
    }
    exec(python_of(project_root, SAMPLER_PAGE, "histories = run_rounds"), scope)
    assert [len(history.rounds) for history in scope["histories"]] == [1, 3]


def test_the_cached_sampler_of_the_page_asks_once_for_equal_messages(project_root: Path):
    scope: dict[str, Any] = {}
    exec(python_of(project_root, SAMPLER_PAGE, "class CachedSampler"), scope)
    inner = FakeScriptedSampler(lambda request: f"said {request.row}")
    sampler = scope["CachedSampler"](inner)
    same = [SampleRequest("critique", [{"role": "user", "content": "?"}], row, 1) for row in (0, 1)]
    samples: list[Sample] = sampler.sample(same) + sampler.sample(same)
    assert {sample.text for sample in samples} == {"said 1"}
    assert len(inner.requests) == 1


def test_stop_conditions_of_the_page_are_taken(project_root: Path):
    from astune.refine.stop import NoGain, Tokens

    page = (project_root / SAMPLER_PAGE).read_text(encoding="utf-8")
    [text] = re.findall(r"`(RefineOptions\(max_rounds=9[^`]*)`", page)
    options = eval(text, {"RefineOptions": RefineOptions, "NoGain": NoGain, "Tokens": Tokens})
    assert options.stop is not None


@pytest.mark.parametrize("page", [AGENT_PAGE, SAMPLER_PAGE])
def test_linked_and_named_files_exist(project_root: Path, page: str):
    text = (project_root / page).read_text(encoding="utf-8")
    links = [project_root / "docs" / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    named = [project_root / name for name in re.findall(r"`((?:astune|tests)/[\w/]+\.py)`", text)]
    assert links
    assert named
    assert [path for path in links + named if not path.exists()] == []


def test_files_of_the_table_exist(project_root: Path):
    text = (project_root / AGENT_PAGE).read_text(encoding="utf-8")
    table = text[text.index("| file in `astune/refine`") : text.index("The cost of the stage")]
    names = re.findall(r"`([\w/]+\.py|samplers/)`", table)
    assert len(names) > 8
    assert [name for name in names if not (project_root / "astune/refine" / name).exists()] == []


def test_options_of_the_table_are_the_constructors_with_their_defaults(project_root: Path):
    text = (project_root / AGENT_PAGE).read_text(encoding="utf-8")
    table = text[text.index("| `SelfRefineAgent(trainer, ...)`") : text.index('`keep="last"` is the default')]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:] if line.startswith("|")]
    told = {name: default.strip() for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    parameters = inspect.signature(SelfRefineAgent).parameters
    assert set(told) == set(parameters) - {"trainer"}
    for name in ("use_critique", "max_refine_rounds", "rows", "keep", "critique_view", "score_threshold"):
        assert told[name].strip("`") in (repr(parameters[name].default), f'"{parameters[name].default}"')


def test_prompt_files_of_the_page_are_the_bundled_ones(project_root: Path):
    text = (project_root / AGENT_PAGE).read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)\.txt`", text)) == set(bundled_prompts().__dataclass_fields__)
