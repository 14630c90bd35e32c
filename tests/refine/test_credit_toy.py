"""The committed toy result is what the shipped credits give, and the page shows it."""

import json

import numpy as np
import pytest

from benchmarks import refine_credit_toy as toy


@pytest.fixture(scope="module")
def document():
    return json.loads(toy.RESULT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schemes(document):
    return {scheme["name"]: scheme["end"] for scheme in document["schemes"]}


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_the_beginning_of_each_scheme_is_that_of_the_result(document, number) -> None:
    curves = toy.train(toy.SCHEMES[number], steps=50)
    recorded = document["schemes"][number]
    assert recorded["name"] == toy.SCHEMES[number].name
    for name, points in curves.items():
        assert [np.mean(point) for point in points] == pytest.approx(recorded["curves"][name][:2], abs=1e-4)


def test_the_page_shows_the_result(document) -> None:
    page = toy.PAGE.read_text(encoding="utf-8")
    assert toy.scheme_table(document) in page
    assert toy.expert_table(document) in page


def test_refining_incorrect_answers_only_ruins_correct_ones_unseen(schemes) -> None:
    for name in ("wrong only, `replace`", "first answers + wrong only, `joint`"):
        assert schemes[name]["t2_oracle"]["low"] > 0.95
        assert schemes[name]["t2_ungated"]["high"] < 0.55


@pytest.mark.parametrize("name", ["all refined, `joint`", "wrong and half of the correct, `joint`"])
def test_refining_correct_answers_as_well_keeps_them(schemes, name) -> None:
    assert schemes[name]["t2_ungated"]["low"] > 0.98


def test_a_large_bonus_on_the_whole_trajectory_teaches_to_fail_first(schemes) -> None:
    end = schemes["all refined, whole trajectory, alpha 10"]
    assert end["t1"]["high"] < 0.01
    assert end["t2_ungated"]["low"] > 0.8


def test_only_logp_lifts_an_answer_that_is_hardly_ever_given(document) -> None:
    passed = {row["kind"]: row["passed_half"] for row in document["experts"] if row["chance"] == 1e-3}
    assert None not in passed.pop("logp")
    assert {step for steps in passed.values() for step in steps} == {None}


def test_exact_accuracies_agree_with_sampling() -> None:
    generator = np.random.default_rng(0)
    answer, revise = np.array([[0.4, -0.1, 0.2]]), np.array([[[0.3, -0.2], [-0.5, 0.4]]])
    n = 200_000
    y1 = generator.choice(3, n, p=toy.softmax(answer)[0])
    look = generator.random(n) < toy.SAYS_BAD[y1]
    revised = generator.random(n) < toy.softmax(revise)[0, look.astype(int), 1]
    r1 = toy.REWARD[y1]
    r2 = np.where(revised, generator.random(n) < toy.REVISED[y1], r1)
    found = {name: values.item() for name, values in toy.accuracies(answer, revise).items()}
    sampled = {"t1": r1.mean(), "t2_ungated": r2.mean(), "t2_oracle": np.maximum(r1, r2).mean()}
    assert found == pytest.approx(sampled, abs=0.005)
