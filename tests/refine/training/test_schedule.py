"""Turn weights and KL coefficients by step; the two stages of SCoRe."""

import pytest

from astune.errors import ConfigError
from astune.refine.training.credit import Credit
from astune.refine.training.schedule import Stage, stage_at

ANSWER, CRITIQUE, REFINE = Credit(0, "answer", 1, 1.0), Credit(0, "critique", 1, 1.0), Credit(0, "refine", 2, 1.0)
EXPERT = Credit(0, "expert", 3, 1.0)
TWO_STAGES = [Stage(0, loss=(0.0, 1.0), kl=(0.2, 0.01)), Stage(100, kl=(0.01,))]


def test_the_first_stage_trains_later_turns_and_holds_the_first() -> None:
    stage = stage_at(TWO_STAGES, 99)
    assert [stage.loss_weight(c) for c in (ANSWER, CRITIQUE, REFINE)] == [0.0, 1.0, 1.0]
    assert [stage.kl_weight(c) for c in (ANSWER, CRITIQUE, REFINE)] == [0.2, 0.01, 0.01]


def test_the_second_stage_trains_both() -> None:
    stage = stage_at(TWO_STAGES, 100)
    assert [stage.loss_weight(c) for c in (ANSWER, CRITIQUE, REFINE)] == [1.0, 1.0, 1.0]
    assert stage.kl_weight(ANSWER) == 0.01


def test_an_expert_counts_with_the_prompt_that_it_answers() -> None:
    assert Stage(loss=(0.5, 1.0, 2.0)).loss_weight(EXPERT) == 0.5


def test_turns_beyond_the_last_number_take_it() -> None:
    assert Stage(loss=(0.5, 2.0)).loss_weight(Credit(0, "refine", 5, 1.0)) == 2.0


@pytest.mark.parametrize("starts", [(), (1,), (0, 5, 5), (0, 5, 3)])
def test_stages_out_of_order_are_refused(starts) -> None:
    with pytest.raises(ConfigError, match=r"refine\.stages must begin at step 0"):
        stage_at([Stage(start) for start in starts], 0)


@pytest.mark.parametrize("numbers", [{"loss": ()}, {"loss": (1.0, -1.0)}, {"kl": (-0.1,)}])
def test_a_stage_without_usable_numbers_is_refused(numbers) -> None:
    with pytest.raises(ConfigError, match=r"refine\.stages"):
        Stage(**numbers)
