"""Credits on hand-made numbers, and what holds for all of them."""

import math
import warnings
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import ConfigError
from astune.refine.training.credit import Chain, Credit, check_shaping, expert, joint, replace, rows_to_refine
from astune.trainer.advantages import rloo_advantages


def advantages(credits: list[Credit], role: str, turn: int | None = None) -> dict[int, float]:
    """Advantages by chain of one role (and turn)."""
    return {c.chain: c.advantage for c in credits if c.role == role and turn in (None, c.turn)}


PAIR = [Chain(0, (0.0, 1.0)), Chain(0, (1.0, 0.0))]


def test_joint_compares_each_turn_with_the_others_of_that_turn() -> None:
    credits = joint([*PAIR, Chain(0, (0.0, 0.0))])
    assert advantages(credits, "answer") == {0: -0.5, 1: 1.0, 2: -0.5}
    assert advantages(credits, "refine") == {0: 1.0, 1: -0.5, 2: -0.5}


def test_alpha_adds_the_improvement_to_a_refinement() -> None:
    # R_2 = 1 + 2 (1 - 0) = 3 against 0 + 2 (0 - 1) = -2.
    assert advantages(joint(PAIR, alpha=2.0), "refine") == {0: 5.0, 1: -5.0}


def test_gamma_hands_a_refinements_return_to_its_first_answer() -> None:
    # G_1 = 0 + 0.5 * 1.5 = 0.75 against 1 + 0.5 * -0.5 = 0.75.
    assert advantages(joint(PAIR, alpha=0.5, gamma=0.5), "answer") == {0: 0.0, 1: 0.0}


def test_returns_of_three_rounds() -> None:
    chains = [Chain(0, (0.0, 1.0, 0.5)), Chain(0, (0.0, 0.0, 0.0))]
    credits = joint(chains, attempts=3, alpha=0.5, gamma=0.5)
    # R = 0, 1.5, 0.25; G_3 = 0.25, G_2 = 1.625, G_1 = 0.8125.
    assert [advantages(credits, "refine", turn)[0] for turn in (2, 3)] == [1.625, 0.25]
    assert advantages(credits, "answer")[0] == 0.8125


def test_an_answer_that_is_not_refined_keeps_its_reward_in_the_turns_left() -> None:
    refined_to_itself = joint([Chain(0, (1.0, 1.0)), Chain(0, (0.0, 1.0))], gamma=0.5)
    left_alone = joint([Chain(0, (1.0,)), Chain(0, (0.0, 1.0))], gamma=0.5)
    assert advantages(left_alone, "answer") == advantages(refined_to_itself, "answer")


def test_a_lone_refinement_is_compared_with_the_answer_that_it_came_from() -> None:
    credits = joint([Chain(0, (0.25, 1.0)), Chain(0, (1.0,))])
    assert advantages(credits, "refine") == {0: 0.75}


def test_a_lone_first_answer_teaches_nothing() -> None:
    assert advantages(joint([Chain(0, (1.0,))]), "answer") == {0: 0.0}


def test_tasks_are_never_compared() -> None:
    other = [Chain(1, chain.rewards) for chain in reversed(PAIR)]
    credits = joint(PAIR + other)
    assert [c for c in credits if c.chain < 2] == joint(PAIR)


def test_rounding_does_not_make_equal_rewards_differ() -> None:
    credits = joint([Chain(0, (0.1, 0.7))] * 3)
    assert {c.advantage for c in credits} == {0.0}


# --- critiques ---

CRITICS = [
    Chain(0, (0.0, 1.0), verdicts=(False,)),  # right, and it helped
    Chain(0, (1.0, 0.0), verdicts=(False,)),  # wrong, and it did harm
    Chain(0, (0.0, 0.0), verdicts=(None,)),  # no verdict, no change
]


@pytest.mark.parametrize(("critique", "worth"), [("outcome", [1, -1, 0]), ("verdict", [1, 0, 0]), ("both", [2, -1, 0])])
def test_worth_of_a_critique(critique, worth) -> None:
    expected = [value - (sum(worth) - value) / 2 for value in worth]
    assert list(advantages(joint(CRITICS, critique=critique), "critique").values()) == expected


def test_critiques_are_not_trained_unless_asked_for() -> None:
    assert not advantages(joint(CRITICS), "critique")


def test_a_critique_that_ends_the_chain_changed_nothing() -> None:
    chains = [Chain(0, (1.0,), verdicts=(True,)), Chain(0, (0.0, 1.0), verdicts=(False,))]
    assert advantages(joint(chains, critique="outcome"), "critique") == {0: -1.0, 1: 1.0}


def test_each_round_has_its_own_critique() -> None:
    chains = [Chain(0, (0.0, 1.0, 0.0), verdicts=(False, False)), Chain(0, (0.0, 0.0, 0.0), verdicts=(False, True))]
    credits = joint(chains, attempts=3, critique="outcome")
    assert [advantages(credits, "critique", turn)[0] for turn in (1, 2)] == [1.0, -1.0]


def test_the_verdict_is_held_against_the_judge_not_the_reward() -> None:
    chains = [Chain(0, (0.9, 1.0), (True,), correct=(False, True)), Chain(0, (0.9, 1.0), (False,), (False, True))]
    assert advantages(joint(chains, critique="verdict"), "critique") == {0: -1.0, 1: 1.0}


@pytest.mark.parametrize(("critique", "alone"), [("outcome", 1.0), ("verdict", 0.5), ("both", 1.5)])
def test_a_lone_critique_is_compared_with_a_coin_and_no_change(critique, alone) -> None:
    assert advantages(joint(CRITICS[:1], critique=critique), "critique") == {0: alone}


# --- what could not be graded ---


@pytest.mark.parametrize("missing", [None, math.nan])
def test_an_ungradable_first_answer_takes_no_part(missing) -> None:
    credits = joint([*PAIR, Chain(0, (missing,))])
    assert credits == joint(PAIR)


def test_an_ungradable_refinement_leaves_its_first_answer_alone() -> None:
    credits = joint([*PAIR, Chain(0, (1.0, None))])
    assert advantages(credits, "answer") == {0: -1.0, 1: 0.5, 2: 0.5}
    assert advantages(credits, "refine") == {0: 1.0, 1: -1.0}


def test_a_return_that_needs_a_missing_reward_takes_no_part() -> None:
    credits = joint([*PAIR, Chain(0, (1.0, None))], gamma=0.25)
    assert 2 not in advantages(credits, "answer")


def test_an_improvement_on_an_ungradable_attempt_takes_no_part() -> None:
    chains = [*PAIR, Chain(0, (None, 1.0))]
    assert 2 not in advantages(joint(chains, alpha=1.0), "refine")
    assert 2 in advantages(joint(chains), "refine")


def test_the_critique_of_an_ungradable_outcome_takes_no_part() -> None:
    chains = [*CRITICS, Chain(0, (0.0, None), verdicts=(False,))]
    assert 3 not in advantages(joint(chains, critique="both"), "critique")
    assert 3 in advantages(joint(chains, critique="verdict"), "critique")


@pytest.mark.parametrize(
    ("rewards", "verdicts", "correct", "said"),
    [
        ((), (), (), "first attempt"),
        ((math.inf,), (), (), "finite"),
        ((0.0, 1.0, 1.0), (True,), (), "1 verdicts on 3 attempts"),
        ((0.0, 1.0), (), (True,), "1 words"),
    ],
)
def test_a_chain_that_does_not_fit_is_refused(rewards, verdicts, correct, said) -> None:
    with pytest.raises(ValueError, match=said):
        Chain(0, rewards, verdicts, correct)


def test_more_attempts_than_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="chain 0 has 3 attempts; attempts is 2"):
        joint([Chain(0, (0.0, 0.0, 1.0))])


# --- replace ---


def test_replace_keeps_correct_first_answers_and_refined_samples() -> None:
    chains = [Chain(0, (1.0,)), Chain(0, (0.0, 1.0)), Chain(0, (0.0, 0.0)), Chain(0, (1.0,))]
    credits = replace(chains)
    assert [(c.chain, c.role, c.turn) for c in credits] == [
        (0, "answer", 1), (1, "refine", 2), (2, "refine", 2), (3, "answer", 1)
    ]  # fmt: skip
    # Turn 1 against all first answers, (1 + 0 + 0) / 3; turn 2 against the other refinement.
    assert [c.advantage for c in credits] == pytest.approx([2 / 3, 1.0, -1.0, 2 / 3])


def test_replace_trains_only_the_last_of_several_rounds() -> None:
    credits = replace([Chain(0, (0.0, 0.0, 1.0)), Chain(0, (0.0, 1.0))])
    assert [(c.chain, c.turn, c.advantage) for c in credits] == [(0, 3, 1.0), (1, 2, 1.0)]


def test_replace_drops_a_row_whose_refinement_could_not_be_graded() -> None:
    assert {c.chain for c in replace([*PAIR, Chain(0, (0.0, None))])} == {0, 1}


def test_replace_of_no_rows_is_no_credit() -> None:
    assert replace([]) == []


# --- expert ---


def test_an_expert_is_compared_with_the_on_policy_answers_only() -> None:
    chains = [Chain(0, (0.0, 1.0)), Chain(0, (1.0,)), Chain(0, (0.0, 1.0)), Chain(0, (0.0, 0.0))]
    credits = expert(chains)
    assert advantages(credits, "expert") == {0: 0.75}
    assert advantages(credits, "answer") == advantages(joint([Chain(0, c.rewards[:1]) for c in chains]), "answer")


def test_a_task_can_have_several_experts() -> None:
    chains = [Chain(0, (0.0, 1.0)), Chain(0, (0.0, 0.0)), Chain(0, (0.0, 1.0)), Chain(1, (0.0, 1.0))]
    assert set(advantages(expert(chains, per_task=2), "expert")) == {0, 2, 3}
    assert not advantages(expert(chains, per_task=0), "expert")


def test_the_expert_is_the_first_correct_attempt() -> None:
    credits = expert([Chain(0, (0.0, 0.0, 1.0, 1.0)), Chain(0, (0.0,))])
    assert [c.turn for c in credits if c.role == "expert"] == [3]


@pytest.mark.parametrize("rewards", [(1.0, 1.0), (0.0, 0.0), (None, 1.0), (0.0, None), (0.0,)])
def test_only_a_correction_is_an_expert(rewards) -> None:
    assert not advantages(expert([Chain(0, rewards), Chain(0, (0.0,))]), "expert")


# --- rows to refine ---

CORRECT = [True, False, None, True, False]


def test_rows_all_and_wrong() -> None:
    assert rows_to_refine(CORRECT, "all") == [0, 1, 3, 4]
    assert rows_to_refine(CORRECT, "wrong") == [1, 4]


@pytest.mark.parametrize(("share", "rows"), [(0.0, "wrong"), (1.0, "all")])
def test_a_mixture_lies_between_wrong_and_all(share, rows) -> None:
    assert rows_to_refine(CORRECT, "mixture", correct_share=share) == rows_to_refine(CORRECT, rows)


def test_a_mixture_takes_its_share_of_the_correct_rows() -> None:
    taken = rows_to_refine([True] * 4000, "mixture", correct_share=0.25, seed=3)
    assert len(taken) / 4000 == pytest.approx(0.25, abs=0.03)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=2), st.integers(), st.data())
def test_a_rows_draw_does_not_depend_on_the_other_rows(correct, seed, data) -> None:
    row = data.draw(st.integers(0, len(correct) - 1))
    others = [not good if index != row else good for index, good in enumerate(correct)]
    first, second = (rows_to_refine(words, "mixture", seed=seed) for words in (correct, others))
    assert (row in first) == (row in second)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"refine\.correct_share"):
        rows_to_refine(CORRECT, "mixture", correct_share=1.5)


# --- shaping ---


@pytest.mark.parametrize(("alpha", "gamma"), [(1.0, 1.0), (10.0, 0.1), (10.0, 1.0)])
def test_shaping_that_rewards_failing_first_is_refused(alpha, gamma) -> None:
    with pytest.raises(ConfigError, match=r"refine\.gamma \* refine\.alpha"):
        joint(PAIR, alpha=alpha, gamma=gamma)


def test_shaping_on_the_way_there_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="watch Accuracy@t1"):
        check_shaping(0.75, 0.8)


@pytest.mark.parametrize(("alpha", "gamma"), [(10.0, 0.0), (0.5, 1.0), (0.0, 1.0)])
def test_mild_shaping_passes_silently(alpha, gamma) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_shaping(alpha, gamma)


@pytest.mark.parametrize(("alpha", "gamma", "key"), [(-1, 0, "alpha"), (math.nan, 0, "alpha"), (0, 1.5, "gamma")])
def test_shaping_out_of_range_is_refused(alpha, gamma, key) -> None:
    with pytest.raises(ConfigError, match=rf"refine\.{key} must be"):
        check_shaping(alpha, gamma)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 5), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_correct_answer_that_stays_is_never_worth_less_than_failing_first(alpha, gamma, low, high) -> None:
    if gamma * alpha > 0.5 or low > high:
        return
    credits = joint([Chain(0, (high, high)), Chain(0, (low, high))], alpha=alpha, gamma=gamma)
    assert advantages(credits, "answer")[0] >= -1e-9


# --- what holds for all ---

rewards = st.none() | st.integers(-3, 3).map(float)
verdicts = st.sampled_from([True, False, None])


@st.composite
def chain(draw) -> Chain:
    made = draw(st.lists(rewards, min_size=1, max_size=3))
    return Chain(draw(st.integers(0, 2)), tuple(made), tuple(draw(verdicts) for _ in made[1:]))


chains = st.lists(chain(), max_size=12)
options = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0, 0.5]),
        "gamma": st.sampled_from([0.0, 0.5]),
        "critique": st.sampled_from(["none", "outcome", "verdict", "both"]),
    }
)


@settings(max_examples=50, deadline=None)
@given(chains, options)
def test_advantages_of_a_group_sum_to_zero(chains, options) -> None:
    groups = defaultdict(list)
    for credit in joint(chains, attempts=3, **options):
        groups[chains[credit.chain].task, credit.turn, credit.role].append(credit.advantage)
    for members in groups.values():
        assert len(members) == 1 or sum(members) == pytest.approx(0, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(chains, options, st.randoms())
def test_the_order_of_the_rows_does_not_matter(chains, options, random) -> None:
    order = random.sample(range(len(chains)), len(chains))
    straight = joint(chains, attempts=3, **options)
    shuffled = joint([chains[number] for number in order], attempts=3, **options)
    found = {(order[c.chain], c.role, c.turn): c.advantage for c in shuffled}
    assert found == pytest.approx({(c.chain, c.role, c.turn): c.advantage for c in straight})


@settings(max_examples=50, deadline=None)
@given(chains, st.sampled_from([0.0, 0.5]), st.sampled_from([-2.0, 0.75]))
def test_a_constant_added_to_all_rewards_changes_nothing(chains, alpha, constant) -> None:
    def shifted(one: Chain) -> Chain:
        return Chain(one.task, tuple(None if r is None else r + constant for r in one.rewards), one.verdicts)

    before = joint(chains, attempts=3, alpha=alpha, critique="outcome")
    after = joint([shifted(one) for one in chains], attempts=3, alpha=alpha, critique="outcome")
    assert [c.advantage for c in after] == pytest.approx([c.advantage for c in before])


@settings(max_examples=50, deadline=None)
@given(chains, st.sampled_from([0.0, 1.0]))
def test_without_gamma_what_came_of_an_answer_does_not_enter_its_advantage(chains, alpha) -> None:
    alone = [Chain(one.task, one.rewards[:1]) for one in chains]
    assert advantages(joint(chains, attempts=3, alpha=alpha), "answer") == advantages(joint(alone), "answer")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3)), min_size=1, max_size=10))
def test_first_answers_have_the_advantages_of_rloo(rows) -> None:
    tasks, values = zip(*rows, strict=True)
    expected = rloo_advantages(torch.tensor(values, dtype=torch.float64), torch.tensor(tasks)).tolist()
    credits = joint([Chain(task, (float(value),)) for task, value in rows])
    assert [c.advantage for c in credits] == pytest.approx(expected)
