"""Turn weights and the two stages of SCoRe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astune.errors import ConfigError
from astune.refine.credit import Credit
from astune.refine.stages import Stage, stage_at, two_stages, weigh_turns

ANSWER, CRITIQUE, REFINE = Credit(0, "answer", 1, 1.0), Credit(0, "critique", 1, 1.0), Credit(0, "refine", 2, 1.0)
EXPERT = Credit(0, "expert", 3, 1.0)


def test_the_first_stage_trains_later_turns_and_holds_the_first() -> None:
    stage = stage_at(two_stages(100, first_turn_kl=0.2, kl=0.01), 99)
    assert [stage.loss_weight(c) for c in (ANSWER, CRITIQUE, REFINE)] == [0.0, 1.0, 1.0]
    assert [stage.kl_weight(c) for c in (ANSWER, CRITIQUE, REFINE)] == [0.2, 0.01, 0.01]


def test_the_second_stage_trains_both() -> None:
    stage = stage_at(two_stages(100, first_turn_kl=0.2, kl=0.01), 100)
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


def test_weights_by_hand() -> None:
    # Three answers and one refinement: means of their own, in units of a mean over four.
    credits = [ANSWER] * 3 + [REFINE]
    assert [c.weight for c in weigh_turns(credits, Stage(loss=(1.0, 2.0)))] == pytest.approx([4 / 3] * 3 + [8.0])


segments = st.lists(
    st.tuples(st.sampled_from([ANSWER, CRITIQUE, REFINE, EXPERT]), st.integers(1, 9), st.integers(-5, 5)), min_size=1
)


@given(segments, st.booleans())
def test_the_weighted_mean_is_the_sum_of_the_turns_means(segments, by_tokens) -> None:
    """Whether a loss divides by segments or by tokens, with a segment's loss the same on all its tokens."""
    credits, tokens, losses = zip(*segments, strict=True)
    sizes = list(tokens) if by_tokens else [1] * len(credits)
    stage = Stage(loss=(0.5, 2.0))
    weighted = weigh_turns(credits, stage, sizes if by_tokens else None)
    found = sum(c.weight * n * loss for c, n, loss in zip(weighted, sizes, losses, strict=True)) / sum(sizes)
    expected = 0.0
    for kind in {*credits}:
        mine = [(n, loss) for c, n, loss in zip(credits, sizes, losses, strict=True) if c == kind]
        mean = sum(n * loss for n, loss in mine) / sum(n for n, _ in mine)
        expected += (0.5 if kind.role in ("answer", "expert") else 2.0) * mean
    assert found == pytest.approx(expected, abs=1e-9)
