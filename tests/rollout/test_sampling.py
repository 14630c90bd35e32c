"""The sampler draws from the distribution it says it draws from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from astune.rollout.sampling import nucleus, sample, stream_key, uniforms

N = 20000
# Chi-square with 7 degrees of freedom passes this with probability 0.001; the seeds are fixed.
CHI_SQUARE_7 = 24.3


def draw(logits_V: Tensor, temperature: float = 1.0, top_p: float = 1.0, rows: int = N) -> tuple[Tensor, Tensor]:
    """One token from each of ``rows`` streams."""
    keys = np.array([stream_key(seed) for seed in range(rows)])
    numbers = uniforms(keys, np.zeros(rows, np.int64))
    full = (np.full(rows, value, np.float32) for value in (temperature, top_p))
    return sample(logits_V.expand(rows, -1), *full, numbers)


def chi_square(counts: NDArray[np.int64], probabilities: Tensor) -> float:
    expected = probabilities.numpy() * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


LOGITS = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.1, -0.4, 0.7, 1.9])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_frequencies_match_the_softmax(temperature: float) -> None:
    tokens, _ = draw(LOGITS, temperature)
    counts = np.bincount(tokens.numpy(), minlength=8)
    assert chi_square(counts, torch.softmax(LOGITS / temperature, -1)) < CHI_SQUARE_7


def test_frequencies_of_one_stream_match_the_softmax() -> None:
    numbers = uniforms(np.full(N, stream_key(7)), np.arange(N))
    tokens, _ = sample(LOGITS.expand(N, -1), np.ones(N, np.float32), np.ones(N, np.float32), numbers)
    assert chi_square(np.bincount(tokens.numpy(), minlength=8), torch.softmax(LOGITS, -1)) < CHI_SQUARE_7


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_logprobs_are_those_of_the_tempered_distribution(temperature: float) -> None:
    tokens, logprobs = draw(LOGITS, temperature, rows=50)
    torch.testing.assert_close(logprobs, torch.log_softmax(LOGITS / temperature, -1)[tokens])


def test_top_p_keeps_the_smallest_set_that_holds_the_mass() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05])
    tokens, _ = draw(probabilities.log(), top_p=0.7)
    assert set(tokens.tolist()) == {1, 3}


def test_top_p_logprobs_are_renormalised() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05])
    tokens, logprobs = draw(probabilities.log(), top_p=0.7, rows=50)
    torch.testing.assert_close(logprobs.exp(), probabilities[tokens] / 0.8)


def test_a_tiny_top_p_keeps_the_most_likely_token() -> None:
    kept = nucleus(torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[1e-9]]))
    assert kept.tolist() == [[0.0, 1.0, 0.0]]


def test_rows_have_their_own_temperature_and_top_p() -> None:
    logits = LOGITS.expand(3, -1)
    numbers = np.array([0.99, 0.99, 0.99])
    settings = np.array([0.0, 1.0, 1.0], np.float32), np.array([1.0, 1e-9, 1.0], np.float32)
    tokens, _ = sample(logits, *settings, numbers)
    assert tokens.tolist() == [2, 2, 7]


def test_greedy_logprobs_are_taken_at_temperature_1() -> None:
    tokens, logprobs = draw(LOGITS, temperature=0.0, rows=3)
    assert tokens.tolist() == [2, 2, 2]
    torch.testing.assert_close(logprobs, torch.log_softmax(LOGITS, -1)[tokens])


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_range_never_draw_an_impossible_token(number: float) -> None:
    logits = torch.tensor([[float("-inf"), 1.0, 2.0, float("-inf"), float("-inf")]])
    tokens, _ = sample(logits, np.ones(1, np.float32), np.ones(1, np.float32), np.array([number]))
    assert tokens.item() in (1, 2)


def test_streams_depend_on_seed_and_position_alone() -> None:
    one = uniforms(np.array([stream_key(3)]), np.array([5]))
    among_others = uniforms(np.array([stream_key(s) for s in (1, 2, 3)]), np.array([9, 0, 5]))
    assert one[0] == among_others[2]


def test_neighbouring_seeds_and_positions_are_uncorrelated() -> None:
    grid = np.stack([uniforms(np.full(200, stream_key(seed)), np.arange(200)) for seed in range(200)])
    for a, b in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1]), (grid[1:, :-1], grid[:-1, 1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_any_python_integer_is_a_seed() -> None:
    assert len({int(stream_key(seed)) for seed in (-1, 0, 2**63, 2**70 + 1)}) == 4
