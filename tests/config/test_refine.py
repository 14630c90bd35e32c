"""The refine section: what fits together, what is refused and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from astune.config import AstuneConfig, dump_yaml, load_config
from astune.errors import ConfigError

ON = "refine.enabled=true"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("astune: {}")
    return path


def problem(conf: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(conf, overrides)
    return str(caught.value)


def test_refinement_is_off_unless_asked_for() -> None:
    assert AstuneConfig().refine.enabled is False


def test_the_default_credits_all_attempts_of_all_rows_and_critiques_by_their_outcome(conf: Path) -> None:
    refine = load_config(conf, [ON]).refine
    assert (refine.credit, refine.refined_rows, refine.critique_worth) == ("joint", "all", "outcome")


@pytest.mark.parametrize("credit", ["replace", "expert"])
def test_other_credits_refine_wrong_answers_and_train_no_critique(conf: Path, credit: str) -> None:
    refine = load_config(conf, [f"refine.credit={credit}"]).refine
    assert (refine.refined_rows, refine.critique_worth) == ("wrong", "none")


def test_without_critiques_none_is_credited(conf: Path) -> None:
    assert load_config(conf, ["refine.use_critique=false"]).refine.critique_worth == "none"


def test_a_printed_section_reads_back_unchanged(conf: Path, tmp_path: Path) -> None:
    stages = "refine.stages=[{start: 0, turn_weights: [0.0, 1.0], turn_kl: [0.1, 0.0]}, {start: 20}]"
    config = load_config(conf, [ON, stages, "refine.prompts=mine"])
    again = tmp_path / "again.yaml"
    again.write_text(dump_yaml(config))
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["refine.max_refine_rounds=0"], "max_refine_rounds should be greater than or equal to 1, got 0"),
        (["refine.alpha=2.0", "refine.gamma=0.5"], "refine.gamma * refine.alpha is 1: from 1 on, failing first"),
        (["refine.credit=replace", "refine.alpha=1.0"], "alpha and gamma belong to credit: joint"),
        (["refine.use_critique=false", "refine.critique_credit=verdict"], "use_critique is false: no critique"),
        (["refine.credit=expert", "refine.critique_credit=both"], "credit is expert: no critique is trained"),
        (["refine.use_critique=false", "refine.gate=verdict"], "use always or score_threshold"),
        (["refine.credit=replace", "refine.rows=mixture"], "leave rows at auto"),
        (["refine.turn_weights=[]"], "refine.turn_weights"),
        (["refine.turn_weights=[-1.0]"], "refine.turn_weights.0 should be greater than or equal to 0"),
        (["refine.turn_kl=[0.1]", "refine.stages=[{start: 0}]"], "give each stage its own"),
        (["refine.stages=[{start: 3}]"], "must begin at step 0"),
        (["refine.stages=[{start: 0}, {start: 0}]"], "then rise, got the starts [0, 0]"),
        (["refine.stages=[{start: 0, turn_weight: [1.0]}]"], "did you mean 'turn_weights'?"),
        ([ON, "trainer.advantages=grpo"], "leave trainer.advantages at auto"),
        ([ON, "trainer.algorithm=rloo", "refine.turn_kl=[0.1]"], "trainer.algorithm is rloo"),
    ],
)
def test_what_does_not_fit_together_is_refused(conf: Path, overrides: list[str], words: str) -> None:
    assert words in problem(conf, *overrides)


@pytest.mark.parametrize("section", ["refine", "trainer"])
@pytest.mark.parametrize(
    ("name", "key"),
    [("enable_self_refine", "enabled"), ("use_critique", "use_critique"), ("max_refine_rounds", "max_refine_rounds")],
)
def test_the_names_of_trainer_arguments_lead_to_the_section(conf: Path, section: str, name: str, key: str) -> None:
    if (section, name) == ("refine", key):
        load_config(conf, [f"refine.{name}={'2' if 'rounds' in name else 'true'}"])
    else:
        assert f"did you mean 'astune.refine.{key}'?" in problem(conf, f"{section}.{name}=true")


def test_what_is_switched_off_does_not_constrain_the_trainer(conf: Path) -> None:
    assert load_config(conf, ["trainer.advantages=grpo"]).trainer.advantages == "grpo"
