"""The mean of the estimator over all outcomes is the gradient of the expected return.

A tabular policy answers (2 ways), criticises (2 ways) and refines (2 ways); a group of chains has few enough
outcomes to go through them all. The analytic gradient is that of the expectation written down here, by autograd; it
shares no code with the credits.
"""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from astune.refine.training.credit import Chain, Credit, joint, replace

#: Logits of turn 1, of the critique given y1, and of turn 2 given (y1, c).
ANSWER = torch.tensor([0.3, -0.2], dtype=torch.float64)
CRITIQUE = torch.tensor([[0.5, -0.1], [0.2, 0.6]], dtype=torch.float64)
REFINE = torch.tensor([[[1.6, 0.4], [0.9, -0.3]], [[-0.9, 0.2], [0.3, 0.1]]], dtype=torch.float64)
#: Rewards of outcome 0 (correct) and 1 (wrong) at each turn; a critique of kind c says "correct" for c = 0.
REWARD_1, REWARD_2 = (1.0, 0.25), (0.9, 0.0)
Path = tuple[int, int, int] | tuple[int]
Gradient = dict[str, Tensor]


def paths(rows: str) -> Iterator[tuple[Path, float]]:
    """All ways that one chain can go, with their probabilities; ``wrong`` leaves correct answers alone."""
    for y1, p1 in enumerate(ANSWER.softmax(-1).tolist()):
        if rows == "wrong" and y1 == 0:
            yield (y1,), p1
            continue
        for c, pc in enumerate(CRITIQUE[y1].softmax(-1).tolist()):
            for y2, p2 in enumerate(REFINE[y1, c].softmax(-1).tolist()):
                yield (y1, c, y2), p1 * pc * p2


def chain_of(path: Path) -> Chain:
    if len(path) == 1:
        return Chain(0, (REWARD_1[path[0]],))
    y1, c, y2 = path
    return Chain(0, (REWARD_1[y1], REWARD_2[y2]), verdicts=(c == 0,))


def score(path: Path, credit: Credit) -> tuple[str, Tensor]:
    """grad log pi of the credited segment, in the table of its own logits."""
    if credit.role == "answer":
        name, logits, index, outcome = "answer", ANSWER, (), path[0]
    elif credit.role == "critique":
        name, logits, index, outcome = "critique", CRITIQUE, path[:1], path[1]
    else:
        name, logits, index, outcome = "refine", REFINE, path[:2], path[2]
    gradient = torch.zeros_like(logits)
    gradient[index] = torch.eye(2, dtype=torch.float64)[outcome] - logits[index].softmax(-1)
    return name, gradient


def mean_estimate(estimator: Callable[[list[Chain]], list[Credit]], rows: str, group: int = 2) -> Gradient:
    """Mean over all outcomes of a group of the sum of advantage * grad log pi, a chain."""
    mean = {"answer": torch.zeros_like(ANSWER), "critique": torch.zeros_like(CRITIQUE), "refine": REFINE * 0}
    for outcome in itertools.product(paths(rows), repeat=group):
        probability = torch.tensor([p for _, p in outcome], dtype=torch.float64).prod()
        for credit in estimator([chain_of(path) for path, _ in outcome]):
            name, gradient = score(outcome[credit.chain][0], credit)
            mean[name] += probability * credit.advantage * gradient / group
    return mean


def analytic(rows: str, alpha: float = 0.0, gamma: float = 0.0, critique: str = "none") -> Gradient:
    """Gradient of what each table should maximise, all other tables held fixed."""
    tables = {"answer": ANSWER.clone(), "critique": CRITIQUE.clone(), "refine": REFINE.clone()}
    for table in tables.values():
        table.requires_grad_()
    p1, pc, p2 = (table.softmax(-1) for table in tables.values())
    goal = {name: torch.zeros((), dtype=torch.float64) for name in tables}
    for y1 in range(2):
        refined = rows == "all" or y1 == 1
        r1 = REWARD_1[y1]
        if not refined:
            goal["answer"] = goal["answer"] + p1[y1] * (1 + gamma) * r1
            continue
        for c, y2 in itertools.product(range(2), repeat=2):
            r2, p = REWARD_2[y2], p1[y1] * pc[y1, c] * p2[y1, c, y2]
            outcome, verdict = r2 - r1, float((c == 0) == (r1 > 0.5))
            worth = {"none": 0.0, "outcome": outcome, "verdict": verdict, "both": outcome + verdict}[critique]
            goal["answer"] = goal["answer"] + p * ((1 - gamma * alpha) * r1 + gamma * (1 + alpha) * r2)
            goal["critique"] = goal["critique"] + p * worth
            goal["refine"] = goal["refine"] + p * (r2 + alpha * (r2 - r1))
    return {name: torch.autograd.grad(goal[name], table, retain_graph=True)[0] for name, table in tables.items()}


def distance(one: Gradient, other: Gradient, *names: str) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in names or one)


@pytest.mark.parametrize("rows", ["all", "wrong"])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.8)])
@pytest.mark.parametrize("critique", ["none", "outcome", "verdict", "both"])
def test_joint_is_unbiased_at_every_turn(rows, alpha, gamma, critique) -> None:
    found = mean_estimate(lambda chains: joint(chains, alpha=alpha, gamma=gamma, critique=critique), rows)
    assert distance(found, analytic(rows, alpha, gamma, critique)) < 1e-12


@pytest.mark.parametrize("rows", ["all", "wrong"])
def test_joint_is_unbiased_in_larger_groups(rows) -> None:
    found = mean_estimate(lambda chains: joint(chains, alpha=1.0, gamma=0.25, critique="both"), rows, group=3)
    assert distance(found, analytic(rows, 1.0, 0.25, "both")) < 1e-12


def one_group(chains: list[Chain]) -> list[Credit]:
    """The broken baseline: both turns of a task in one group, so that an answer's baseline holds its own refinement."""
    rewards = [reward for chain in chains for reward in chain.rewards]
    return [
        Credit(number, "answer", 1, chain.rewards[0] - (sum(rewards) - chain.rewards[0]) / (len(rewards) - 1))
        for number, chain in enumerate(chains)
    ]


@pytest.mark.parametrize("rows", ["all", "wrong"])
def test_a_refinement_in_the_baseline_of_its_own_answer_is_biased(rows) -> None:
    assert distance(mean_estimate(one_group, rows), analytic(rows), "answer") > 0.01


def test_the_gradients_compared_are_not_nothing() -> None:
    assert min(gradient.abs().max() for gradient in analytic("all", critique="both").values()) > 0.01


def test_replace_points_the_way_of_the_gradient_at_turn_1_and_equals_it_at_turn_2() -> None:
    found, expected = mean_estimate(replace, "wrong"), analytic("wrong")
    assert distance(found, expected, "refine") < 1e-12
    # Correct answers only, each against the mean of all others: two rewards a and b make it (a - b) (1 - p) grad p.
    p = ANSWER.softmax(-1)[0]
    assert distance({"answer": found["answer"]}, {"answer": (1 - p) * expected["answer"]}) < 1e-12
