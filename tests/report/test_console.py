from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from astune.report.console import ProgressTable, RunHeader, StepRow, evaluation_line, sparkline
from astune.report.metrics import HABITS, Evaluation, step_metrics
from astune.report.refinement import LEGEND

HEADER = RunHeader(
    model="models/nano [v1]",
    parameters=3_214_080,
    tasks="nano_gsm, 2,000 to train, 240 held out",
    workflow="tutorial.math_agent->ExampleMathLearn",
    judge="astune.task_judge.math_answer_as_judge->MathAnswerAsJudge",
    sandbox="kernel: landlock + seccomp",
    device="cpu, float32",
    threads=2,
    run_folder="saved_experiments/nano",
    seed=7,
)


def row(step: int, seconds: float = 2.0) -> StepRow:
    return StepRow(step, 0.25, 0.5, {"no_print": 0.2, "premature_answer": 0.1, "malformed_call": 0.0}, 5_234.0, seconds)


def refined(step: int, accuracy: float | None = 0.625, seconds: float = 2.0) -> StepRow:
    cells = {"@t2": accuracy, "oracle": 0.75, "i→c": 20.0, "i→i": 22.0, "c→c": 20.0, "c→i": 2.0}
    return replace(row(step, seconds), refine=cells)


def shown(*rows: StepRow, terminal: bool = False, every: int = 1, done: int = 0) -> str:
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=110, color_system=None)
    with ProgressTable(HEADER, total_steps=10, done_steps=done, every=every, console=console) as table:
        for one in rows:
            table.step(one)
    return out.getvalue()


def test_header_tells_every_field_as_it_is():
    text = shown()
    for value in ("models/nano [v1] (3.2 M parameters)", "cpu, float32, 2 threads", "kernel: landlock + seccomp", "7"):
        assert value in text


def test_resumed_run_says_where_it_goes_on():
    assert "going on after step 4 of 10" in shown(done=4)


def test_without_a_terminal_a_step_is_one_plain_line():
    assert shown(row(1)).splitlines()[-1] == (
        "step 1/10  reward +0.250  success 50.0 %  no_print 20.0 %  premature_answer 10.0 %  malformed_call 0.0 %  "
        "5,234 tokens/s  2.00 s/step  18 s left"
    )


def test_without_a_terminal_there_are_no_escape_codes():
    assert "\x1b" not in shown(row(1), row(2))


def test_plain_lines_come_every_few_steps_and_at_the_end():
    lines = shown(*map(row, range(1, 11)), every=4).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["4/10", "8/10", "10/10"]


def test_on_a_terminal_the_table_shows_the_columns_and_the_last_steps():
    text = shown(*map(row, range(1, 11)), terminal=True)
    last = text[text.rindex("success") :]
    assert all(column in text for column in ("no_print", "premature", "malformed", "tokens/s"))
    assert "10/10" in last
    assert "0 s left" in last


def test_table_fits_eighty_columns():
    out = StringIO()
    with ProgressTable(HEADER, 1, console=Console(file=out, force_terminal=True, width=80, color_system=None)) as table:
        table.step(row(1))
    assert "…" not in out.getvalue()


def test_a_step_with_refinement_is_told_by_its_attempts_and_transitions():
    line = shown(refined(1)).splitlines()[-1]
    assert "@t1 50.0 %  @t2 62.5 %  oracle 75.0 %  i→c 20  i→i 22  c→c 20  c→i 2" in line
    assert "no_print" not in line


def test_a_batch_that_was_refined_in_part_has_no_ungated_accuracy():
    assert "@t2 -  oracle 75.0 %" in shown(refined(1, accuracy=None)).splitlines()[-1]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_words_of_refinement_are_explained_once_before_the_first_of_them(terminal: bool):
    text = shown(refined(1), refined(2), terminal=terminal)
    assert text.count(LEGEND[0]) == 1
    assert text.index(LEGEND[-1]) < text.index("@t1 50.0 %" if not terminal else "50.0 %")
    assert LEGEND[0] not in shown(row(1))


def test_the_table_of_a_refined_run_fits_eighty_columns():
    out = StringIO()
    with ProgressTable(HEADER, 1, console=Console(file=out, force_terminal=True, width=80, color_system=None)) as table:
        table.step(refined(1, seconds=123.45))
    for column in ("@t1", "@t2", "oracle", "i→c", "i→i", "c→c", "c→i", "tokens/s", "s/step", "123.45"):
        assert column in out.getvalue()


def test_phase_is_shown_on_a_terminal():
    out = StringIO()
    with ProgressTable(HEADER, 1, console=Console(file=out, force_terminal=True, width=80)) as table:
        table.phase("held-out evaluation, 120 of 240")
    assert "held-out evaluation, 120 of 240" in out.getvalue()


def test_time_left_follows_the_recent_steps():
    table = ProgressTable(HEADER, total_steps=100, console=Console(file=StringIO()))
    assert table.seconds_left is None
    for step in range(1, 41):
        table.step(row(step, seconds=9.0 if step <= 20 else 2.0))
    assert table.seconds_left == 60 * 2.0


def test_row_comes_from_the_metrics_of_a_step():
    made = StepRow.from_metrics(3, step_metrics([]), seconds=2.0, tokens=500)
    assert (made.step, made.tokens_per_second, made.habits) == (3, 250.0, dict.fromkeys(HABITS, 0.0))


def test_a_row_names_the_last_attempt_also_where_its_accuracy_is_unknown():
    metrics = step_metrics([]) | {"refine/rows": 8.0, "refine/turns": 3.0, "refine/ic": 1.0}
    made = StepRow.from_metrics(3, metrics, seconds=2.0, tokens=500)
    assert made.refine == {"@t3": None, "oracle": None, "i→c": 1.0, "i→i": None, "c→c": None, "c→i": None}


def test_evaluation_line_names_interval_habits_and_losses():
    evaluation = Evaluation(20, "sampled", 200, 90, 0, 3, 0.4, dict.fromkeys(HABITS, 0.1))
    assert evaluation_line(evaluation) == (
        "held-out at step 20, sampled: 45.0 % [38.3, 51.9] of 200  "
        "no_print 10.0 %  premature_answer 10.0 %  malformed_call 10.0 %  3 failed"
    )


@pytest.mark.parametrize(("values", "text"), [([], ""), ([1.0, 1.0], "▁▁"), ([0.0, 0.5, 1.0], "▁▅█")])
def test_sparkline_scales_to_its_own_range(values: list[float], text: str):
    assert sparkline(values) == text


def test_importing_the_console_loads_neither_torch_nor_matplotlib():
    script = "import sys, astune.report.console; print({'torch', 'matplotlib', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
