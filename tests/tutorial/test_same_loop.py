"""The tutorial's loop and the library's are one and the same: equal problems give equal histories, to the bit."""

import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.refine.loop import AllInvalidError, Result, refine
from astune.refine.stop import Rounds
from tutorial.self_refine_from_scratch.from_scratch import (
    Generator,
    QuadraticScorer,
    mask_unselectable,
    reflect_and_edit,
    self_refine,
)

FOLDER = Path(__file__).resolve().parents[2] / "tutorial" / "self_refine_from_scratch"
TARGET_D = torch.tensor([2.0, -1.0, 0.5])


def selectable(candidates_KD: torch.Tensor) -> torch.Tensor:
    return candidates_KD[:, 0] > -1.0


def through_the_library(generator: Generator, *, rounds: int, step_size: float, count: int) -> Result:
    scorer = QuadraticScorer(TARGET_D)

    def evaluate(_state: object, candidates: list[torch.Tensor]) -> list[float]:
        candidates_KD = torch.stack(candidates)
        return mask_unselectable(scorer.score(candidates_KD), selectable(candidates_KD)).tolist()

    return refine(
        lambda state: list(generator.generate(state.reflection, count)),
        evaluate,
        lambda _state, attempt: reflect_and_edit(attempt.candidate, scorer, step_size),
        stop=Rounds(1 + rounds),
    )


@settings(max_examples=50, deadline=None)
@given(
    step_size=st.floats(0, 1.2),
    noise=st.sampled_from([0.0, 0.5]),
    count=st.integers(1, 4),
    rounds=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
def test_both_loops_have_the_same_history(step_size: float, noise: float, count: int, rounds: int, seed: int) -> None:
    torch.manual_seed(seed)
    generator = Generator(3, noise)
    try:
        ours = self_refine(
            generator,
            QuadraticScorer(TARGET_D),
            rounds=rounds,
            step_size=step_size,
            candidates_per_round=count,
            selectable=selectable,
        )
    except ValueError:
        torch.manual_seed(seed)
        with pytest.raises(AllInvalidError):
            through_the_library(generator, rounds=rounds, step_size=step_size, count=count)
        return
    done = len(ours.score_history)  # fewer than asked for, where a later round had nothing to choose from
    torch.manual_seed(seed)
    library = through_the_library(generator, rounds=done - 1, step_size=step_size, count=count)
    assert [one.best.score.value for one in library.state.rounds] == ours.score_history
    assert library.best_score_history[count - 1 :: count] == ours.best_so_far
    assert library.chosen.score.value == ours.best_score
    assert torch.equal(library.chosen.candidate, ours.best_candidate)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_both_examples_of_the_page_give_the_same_scores(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "from_scratch", sys.modules[self_refine.__module__])
    text = (FOLDER / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n)+", text, re.M)
    scope: dict[str, object] = {}
    for block in blocks:
        if block.startswith("    import torch\n"):
            exec(re.sub(r"^    ", "", block, flags=re.M), scope)
    history = [attempt.score.value for attempt in scope["real"].state.attempts]
    assert history == scope["result"].score_history
