from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from astune.errors import CheckpointError
from astune.report.metrics import Evaluation
from astune.report.run_folder import RunFolder
from astune.report.summary import (
    duration,
    paired_summary,
    peak_rss_bytes,
    read_summary,
    summarise,
    summary_in_words,
    write_summary,
)
from astune.trace import Episode, Verdict

REQUIRED = {
    "success_before", "success_after", "greedy_before", "greedy_after", "n_heldout", "ci95_before", "ci95_after",
    "habits_before", "habits_after", "train_seconds", "steps", "peak_rss_bytes", "seed",
}  # fmt: skip


def evaluation(step: int, mode: str, n_solved: int, n: int = 200) -> Evaluation:
    habits = {"no_print": 0.1, "premature_answer": 0.05, "malformed_call": 0.025}
    return Evaluation(step, mode, n, n_solved, 1, 2, 0.5, habits)


def summary(**extra: Any) -> dict[str, Any]:
    return summarise(
        (evaluation(0, "sampled", 90), evaluation(80, "sampled", 190)),
        (evaluation(0, "greedy", 100), evaluation(80, "greedy", 196)),
        train_seconds=252.4,
        steps=80,
        seed=7,
        peak_rss=2**30,
        extra=extra,
    )


def test_every_promised_key_is_there():
    assert summary().keys() >= REQUIRED


def test_rates_are_those_of_the_evaluations():
    found = summary()
    names = ("success_before", "success_after", "greedy_before", "greedy_after", "n_heldout")
    assert [found[name] for name in names] == [0.45, 0.95, 0.5, 0.98, 200]


def test_intervals_hold_their_rates():
    found = summary()
    assert found["ci95_before"][0] < 0.45 < found["ci95_before"][1]
    assert found["ci95_after"][0] < 0.95 < found["ci95_after"][1]


def test_habits_have_exactly_the_three_names():
    assert list(summary()["habits_after"]) == ["no_print", "premature_answer", "malformed_call"]


def test_unequal_numbers_of_problems_are_refused():
    pair = (evaluation(0, "sampled", 9, n=10), evaluation(1, "sampled", 9, n=12))
    with pytest.raises(ValueError, match="10 held-out problems before training and 12 after"):
        summarise(pair, pair, train_seconds=1.0, steps=1, seed=0)


def test_summary_is_read_back(tmp_path: Path):
    folder = RunFolder("run", tmp_path).create()
    assert read_summary(folder) is None
    write_summary(folder, summary(model="nano"))
    assert read_summary(folder) == summary(model="nano")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_summary_is_named(tmp_path: Path, text: str):
    folder = RunFolder("run", tmp_path).create()
    folder.summary.write_text(text)
    with pytest.raises(CheckpointError, match=r"summary\.json is no.*delete it"):
        read_summary(folder)


def test_words_say_what_the_numbers_say():
    assert summary_in_words(summary()) == (
        "Held-out problems solved, of 200 (95 % interval):\n"
        "  sampled at temperature 1   45.0 % [38.3, 51.9]  ->  95.0 % [91.0, 97.3]\n"
        "  greedy                     50.0 % [43.1, 56.9]  ->  98.0 % [95.0, 99.2]\n"
        "Bad habits, share of sampled episodes: forgot to print 10.0 % -> 10.0 %, "
        "answered before the tool 5.0 % -> 5.0 %, malformed tool call 2.5 % -> 2.5 %.\n"
        "80 steps, 4 min 12 s of training, peak memory 1.00 GiB, seed 7."
    )


def test_paired_summary_compares_the_shared_problems():
    def passed(solved: list[bool], first: int = 0) -> list[Episode]:
        return [Episode(f"t{first + i}", 0, verdict=Verdict(float(s), s)) for i, s in enumerate(solved)]

    found = paired_summary(passed([False] * 6 + [True] * 4), passed([True] * 10, first=2))
    assert found["success_difference"] == 0.5


def test_paired_summary_without_shared_problems_is_empty():
    assert paired_summary([Episode("a", 0)], [Episode("b", 0)]) == {}


def test_peak_memory_is_plausible_for_this_process():
    assert 10 * 2**20 < peak_rss_bytes() < 64 * 2**30


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.4, "9 s"), (59.6, "1 min 0 s"), (252.4, "4 min 12 s"), (7_260, "2 h 1 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str):
    assert duration(seconds) == text
