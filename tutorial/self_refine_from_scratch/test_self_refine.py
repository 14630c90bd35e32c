"""The claims of README.md, as seven tests. Run either one, in this folder:

python test_self_refine.py
python -m pytest test_self_refine.py
"""

from itertools import pairwise

import torch
from from_scratch import Generator, QuadraticScorer, mask_unselectable, reflect_and_edit, self_refine
from torch import Tensor

DIM = 6


def problem(seed: int = 0) -> tuple[Generator, QuadraticScorer]:
    """A generator without noise, and a scorer with a target that lies away from where it starts."""
    torch.manual_seed(seed)
    return Generator(DIM), QuadraticScorer(3 * torch.randn(DIM))


def error(candidate_D: Tensor, scorer: QuadraticScorer) -> float:
    """The distance from the target."""
    return float((candidate_D - scorer.target_D).norm())


def test_the_gradient_is_the_derivative_of_the_score() -> None:
    generator, scorer = problem()
    candidate_D = generator.generate()[0].requires_grad_()
    (derivative_D,) = torch.autograd.grad(scorer.score(candidate_D), candidate_D)
    torch.testing.assert_close(scorer.gradient(candidate_D), derivative_D)


def test_one_edit_contracts_the_error_by_one_minus_two_eta() -> None:
    generator, scorer = problem()
    candidate_D = generator.generate()[0]
    for step_size in (0.1, 0.25, 0.4, 0.6, 0.75, 0.9):
        after = error(reflect_and_edit(candidate_D, scorer, step_size), scorer)
        expected = abs(1 - 2 * step_size) * error(candidate_D, scorer)
        assert abs(after - expected) < 1e-5, f"step size {step_size}: {after} instead of {expected}"


def test_a_step_size_of_one_half_solves_it_in_one_round() -> None:
    generator, scorer = problem()
    result = self_refine(generator, scorer, rounds=1, step_size=0.5)
    assert result.initial_score < -1
    assert result.best_score > -1e-10
    torch.testing.assert_close(result.best_candidate, scorer.target_D)


def test_between_zero_and_one_every_round_is_better_than_the_one_before() -> None:
    for step_size in (0.1, 0.4, 0.9):
        generator, scorer = problem()
        history = self_refine(generator, scorer, rounds=8, step_size=step_size).score_history
        assert len(history) == 1 + 8
        assert all(earlier < later for earlier, later in pairwise(history)), history


def test_the_best_is_kept_when_the_latest_oscillates_or_diverges() -> None:
    generator, scorer = problem()
    oscillating = self_refine(generator, scorer, rounds=6, step_size=1.0)
    scores = torch.tensor(oscillating.score_history)
    torch.testing.assert_close(scores, scores[:1].expand(7))  # from one side of the target to the other, and back

    generator, scorer = problem()
    diverging = self_refine(generator, scorer, rounds=200, step_size=1.5)  # until the score overflows
    assert diverging.score_history[-1] < 1e6 * diverging.initial_score  # scores are negative: a million times worse
    assert diverging.best_so_far == [diverging.initial_score] * len(diverging.score_history)
    assert diverging.best_score == diverging.initial_score == float(scorer.score(diverging.best_candidate))


def test_minus_infinity_masks_a_slot_and_zero_makes_it_the_best() -> None:
    generator, scorer = problem()
    scores_K = scorer.score(generator.generate(count=5))
    for masked in range(5):
        selectable_K = torch.arange(5) != masked
        assert int(scores_K.masked_fill(~selectable_K, 0.0).argmax()) == masked
        chosen = int(mask_unselectable(scores_K, selectable_K).argmax())
        assert chosen == max((k for k in range(5) if k != masked), key=lambda k: float(scores_K[k]))


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[float]:
        torch.manual_seed(seed)
        generator = Generator(DIM, noise=0.3)
        return self_refine(generator, QuadraticScorer(torch.ones(DIM)), candidates_per_round=3).score_history

    assert run(1) == run(1)
    assert run(1) != run(2)


if __name__ == "__main__":
    tests = [value for name, value in list(globals().items()) if name.startswith("test_")]
    for test in tests:
        test()
        print(f"passed  {test.__name__}")
    print(f"{len(tests)} of {len(tests)} tests passed")
