"""The from-scratch tutorial: its loop, its own seven tests, and the pages that quote its experiments."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial.self_refine_from_scratch.from_scratch import (
    Generator,
    QuadraticScorer,
    Refined,
    mask_unselectable,
    reflect_and_edit,
    self_refine,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tutorial" / "self_refine_from_scratch"
PAGES = ("README.md", "README.zh.md")


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if Python had been started in the tutorial's folder, for those tests that need no process of their own."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("from_scratch", "experiments")]:
        del sys.modules[name]


class TestItsOwnTests:
    @pytest.mark.parametrize(
        ("arguments", "cwd"),
        [
            (("test_self_refine.py",), FOLDER),
            (("tutorial/self_refine_from_scratch/test_self_refine.py",), ROOT),
        ],
        ids=["its folder", "the project's root"],
    )
    def test_run_as_a_script(self, arguments: tuple[str, ...], cwd: Path) -> None:
        run = python(*arguments, cwd=cwd)
        assert run.returncode == 0, run.stderr
        assert run.stdout.endswith("7 of 7 tests passed\n")

    @pytest.mark.parametrize(
        ("path", "cwd"),
        [("test_self_refine.py", FOLDER), ("tutorial/self_refine_from_scratch/test_self_refine.py", ROOT)],
        ids=["its folder", "the project's root"],
    )
    def test_run_under_pytest(self, path: str, cwd: Path) -> None:
        run = python("-m", "pytest", "-q", "-p", "no:cacheprovider", path, cwd=cwd)
        assert run.returncode == 0, run.stdout
        assert "7 passed" in run.stdout

    @pytest.mark.parametrize(
        ("line", "wrong"),
        [
            ("return -2 *", "return -1 *"),
            ("if score > best_score:", "if True:"),
            ("scores_K.isfinite()), MASKED)", "scores_K.isfinite()), 0.0)"),
        ],
        ids=["a wrong gradient", "keeping the latest", "masking with 0"],
    )
    def test_notice_a_wrong_line(self, line: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
        source = (FOLDER / "from_scratch.py").read_text(encoding="utf-8")
        assert source.count(line) == 1
        mutant = ModuleType("from_scratch")
        monkeypatch.setitem(sys.modules, "from_scratch", mutant)
        exec(compile(source.replace(line, wrong), "from_scratch.py", "exec"), mutant.__dict__)
        with pytest.raises(AssertionError):
            runpy.run_path(str(FOLDER / "test_self_refine.py"), run_name="__main__")


class TestLoop:
    @settings(max_examples=60, deadline=None)
    @given(
        step_size=st.floats(-2, 3),
        noise=st.floats(0, 2),
        candidates=st.integers(1, 4),
        rounds=st.integers(0, 30),
        seed=st.integers(0, 1000),
    )
    def test_returns_the_best_of_its_history_whatever_the_step_size(
        self, step_size: float, noise: float, candidates: int, rounds: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        scorer = QuadraticScorer(torch.randn(3))
        result = self_refine(
            Generator(3, noise), scorer, rounds=rounds, step_size=step_size, candidates_per_round=candidates
        )
        assert result.best_score == max(result.score_history) == result.best_so_far[-1]
        assert result.initial_score == result.score_history[0]
        assert float(scorer.score(result.best_candidate)) == pytest.approx(result.best_score)

    @settings(max_examples=60, deadline=None)
    @given(step_size=st.floats(-2, 3), seed=st.integers(0, 1000))
    def test_one_edit_multiplies_the_error_by_one_minus_two_eta(self, step_size: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        target_D, candidate_D = torch.randn(2, 5, generator=generator, dtype=torch.float64)
        after_D = reflect_and_edit(candidate_D, QuadraticScorer(target_D), step_size)
        torch.testing.assert_close(after_D - target_D, (1 - 2 * step_size) * (candidate_D - target_D))

    def test_without_rounds_is_best_of_n(self) -> None:
        torch.manual_seed(0)
        scores_K = QuadraticScorer(torch.ones(4)).score(torch.randn(16, 4))
        torch.manual_seed(0)
        result = self_refine(Generator(4), QuadraticScorer(torch.ones(4)), rounds=0, candidates_per_round=16)
        assert result.score_history == [float(scores_K.max())]

    def test_result_unpacks_in_the_documented_order(self) -> None:
        assert Refined._fields == ("best_candidate", "best_score", "score_history", "initial_score")

    def test_never_returns_a_candidate_that_is_not_selectable(self) -> None:
        torch.manual_seed(0)
        result = self_refine(
            Generator(3, noise=1.0),
            QuadraticScorer(torch.full((3,), -1.0)),
            candidates_per_round=8,
            selectable=lambda candidates_KD: candidates_KD[:, 0] > 0,  # the target is out of bounds
        )
        assert result.best_candidate[0] > 0

    def test_a_first_round_without_a_selectable_candidate_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="none of the 4 first candidates is selectable"):
            self_refine(
                Generator(3),
                QuadraticScorer(torch.zeros(3)),
                candidates_per_round=4,
                selectable=lambda candidates_KD: torch.zeros(len(candidates_KD), dtype=torch.bool),
            )

    def test_a_later_round_without_a_selectable_candidate_keeps_the_best(self) -> None:
        torch.manual_seed(0)
        answers = iter([True, True, False])
        result = self_refine(
            Generator(3),
            QuadraticScorer(torch.ones(3)),
            selectable=lambda candidates_KD: torch.full((len(candidates_KD),), next(answers)),
        )
        assert len(result.score_history) == 2
        assert result.best_score == result.score_history[1]

    def test_a_score_that_is_no_number_is_masked(self) -> None:
        scores_K = torch.tensor([float("nan"), -3.0, float("inf")])
        assert int(mask_unselectable(scores_K, torch.ones(3, dtype=torch.bool)).argmax()) == 1


@pytest.mark.usefixtures("on_path")
class TestExperiments:
    @staticmethod
    def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
        import_module("experiments.__main__").main()

    def test_give_the_committed_results(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run(monkeypatch, "--json")
        found, committed = json.loads(capsys.readouterr().out), committed_results()
        assert found.keys() == committed.keys()
        for name, rows in committed.items():
            # Another processor may round the last digit of a mean differently, or break one near tie in thousands.
            assert numbers(found[name]) == pytest.approx(numbers(rows), rel=0.01, abs=0.11), name

    def test_one_can_be_run_by_name(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.run(monkeypatch, "masking")
        assert capsys.readouterr().out.startswith("masking\n\n| masked slots get |")

    def test_an_unknown_name_is_refused_with_those_that_exist(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            self.run(monkeypatch, "maskin")
        assert "unknown: maskin; choose from masking, step_size" in capsys.readouterr().err

    def test_figures_can_be_drawn_from_the_committed_results(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        figures = import_module("experiments.figures")
        (tmp_path / "results.json").write_bytes((FOLDER / "results.json").read_bytes())
        monkeypatch.setattr(figures, "FOLDER", tmp_path)
        figures.main()
        drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
        assert drawn == sorted(path.name for path in (FOLDER / "figures").iterdir())

    def test_curved_score_has_the_gradient_that_it_says(self) -> None:
        torch.manual_seed(0)
        root_DD = torch.randn(3, 3, dtype=torch.float64)
        scorer = import_module("experiments.step_size").CurvedScorer(torch.ones(3), root_DD @ root_DD.T)
        candidate_D = torch.randn(3, dtype=torch.float64, requires_grad=True)
        scorer.score(candidate_D).backward()
        torch.testing.assert_close(scorer.gradient(candidate_D), candidate_D.grad)

    @pytest.mark.parametrize("cosine", [1.0, 0.5, 0.0])
    def test_turned_feedback_changes_the_error_as_derived(self, cosine: float) -> None:
        torch.manual_seed(0)
        turned = import_module("experiments.best_of_n").turned
        scorer = QuadraticScorer(torch.zeros(8, dtype=torch.float64))
        error_SD = torch.randn(5, 8, dtype=torch.float64)
        after_SD = error_SD + 0.25 * turned(scorer.gradient(error_SD), cosine)
        factor = 1 - 4 * 0.25 * cosine + 4 * 0.25**2
        torch.testing.assert_close(scorer.score(after_SD), factor * scorer.score(error_SD))


class TestPages:
    def test_english_page_shows_the_tables_as_they_are_printed(self) -> None:
        shown = {name: [split(line) for line in lines] for name, lines in tables("README.md").items()}
        assert shown == {
            name: [rows[0], ["---"] * len(rows[0]), *rows[1:]] for name, rows in committed_results().items()
        }

    def test_chinese_page_shows_the_same_numbers(self) -> None:
        shown = {name: [split(line)[1:] for line in lines[2:]] for name, lines in tables("README.zh.md").items()}
        assert shown == {name: [row[1:] for row in rows[1:]] for name, rows in committed_results().items()}

    @pytest.mark.parametrize("page", PAGES)
    def test_rates_and_scores_in_the_text_come_from_the_tables(self, page: str) -> None:
        known = {f"{number:g}" for rows in committed_results().values() for number in map(abs, numbers(rows))}
        quoted = re.findall(r"(?<![\d.:/])\d+\.\d+(?![\d.])|\d+(?= %)", prose(page))
        assert len(quoted) > 15
        assert not {number for number in quoted if f"{float(number):g}" not in known}

    def test_both_pages_quote_the_same_numbers_in_the_same_order(self) -> None:
        english, chinese = (re.findall(r"\d+\.\d+", prose(page)) for page in PAGES)
        assert sorted(english) == sorted(chinese)

    def test_both_pages_have_the_same_sections(self) -> None:
        english, chinese = (
            re.findall(r"^#+(?= )", (FOLDER / page).read_text(encoding="utf-8"), re.M) for page in PAGES
        )
        assert english == chinese

    @pytest.mark.usefixtures("on_path")
    @pytest.mark.parametrize("page", PAGES)
    def test_example_runs_as_printed(self, page: str, capsys: pytest.CaptureFixture[str]) -> None:
        text = (FOLDER / page).read_text(encoding="utf-8")
        example = re.search(r"(?:^    .*\n)*    result = self_refine\(.*\n(?:^    .*\n)*", text, re.M)
        assert example is not None
        scope: dict[str, object] = {}
        exec(re.sub(r"^    ", "", example[0], flags=re.M), scope)
        assert isinstance(scope["result"], tuple)
        best_candidate, best_score, score_history, initial_score = scope["result"]
        torch.testing.assert_close(best_candidate, torch.tensor([1.0, 2.0, 3.0]), atol=0.01, rtol=0)
        assert initial_score == score_history[0] < best_score
        assert str(best_score) in capsys.readouterr().out

    @pytest.mark.parametrize("page", PAGES)
    def test_linked_files_exist(self, page: str) -> None:
        links = re.findall(r"\]\((?!https?:)([^)#]+)", (FOLDER / page).read_text(encoding="utf-8"))
        assert links
        assert [link for link in links if not (FOLDER / link).exists()] == []


def committed_results() -> dict[str, list[list[str]]]:
    results: dict[str, list[list[str]]] = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    return results


def numbers(rows: list[list[str]]) -> list[float]:
    text = " ".join(cell for row in rows[1:] for cell in row).replace("\N{MINUS SIGN}", "-")
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", text)]


def tables(page: str) -> dict[str, list[str]]:
    text = (FOLDER / page).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- results: (\w+) -->\n(.*?)\n<!-- /results -->", text, re.S)
    return {name: body.split("\n") for name, body in blocks}


def split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def prose(page: str) -> str:
    """The page without its tables of results, its code and its links."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    text = re.sub(r"<!-- results: .*?<!-- /results -->", "", text, flags=re.S)
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    return re.sub(r"\]\([^)]*\)|arXiv:[\d.]+", "", text)
