"""Expressions are compared in the sandbox, and nothing that a model writes gets out of it or holds it up."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from astune.errors import SandboxError
from astune.task_judge import symbolic
from astune.task_judge.math_answer_as_judge import answers_match
from astune.task_judge.symbolic import as_expression, expressions_match, gathers_more
from astune.tools.types import SandboxLimits


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{1}{\sqrt{2}}"),
        ("sqrt(2)", r"\sqrt{2}"),
        ("√2", r"$\sqrt{2}$"),
        ("6pi", r"6\pi"),
        ("2(x+1)", "2x + 2"),
        ("(x-1)(x+1)", "x^2 - 1"),
        ("9 * 2", "18"),
        ("2**4", "16"),
        (r"\binom{4}{2}", "6"),
        ("(1, 2)", "(1,2)"),
        ("1, 2", r"\{2, 1\}"),
        (r"\text{(B)}", "B"),
        ("2yx", "2xy"),
        (r"\begin{pmatrix} 1 \\ 1 + 1 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ],
)
def test_equivalent_expressions_match(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is True


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        *(
            ("18x", "18"),
            ("18k", "18"),
            ("18i", "18"),
            ("18!", "18"),
            (r"18\pi", "18"),
            ("f(18)", "18"),
            ("18/0", "18"),
        ),
        *(("0x12", "18"), ("1e999999999", "18"), ("18e00000000000", "18"), ("17-18", "18"), ("(17)(18)", "18")),
        *((r"\sqrt{2}", "1.414214"), (r"\sqrt{2}", "1.41421356"), ("(2,1)", "(1,2)"), ("A", "B"), ("x+1", "x+2")),
    ],
)
def test_different_expressions_do_not_match(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is False


@pytest.mark.parametrize("answer", ["17 = 18", "1 17", "17, 18", r"17 \\ 18", r"1\,17", r"\pm 18", "[18, 18]", "18_17"])
def test_gathered_values_are_refused_before_the_grader(answer: str) -> None:
    expression = as_expression(answer)
    assert expression is None or gathers_more(expression, "18")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "exec(x)",
        "(lambda: 0)()",
        "a.__class__",
        "open('f')",
        "x" * 301,
        "{",
        "}{",
        "٣+1",
        "\\input{x}",
    ],
)
def test_what_is_no_mathematics_never_reaches_the_grader(text: str) -> None:
    assert as_expression(text) is None


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').system('id')",
        "().__class__.__base__.__subclasses__()",
        r"\text{__import__('os').system('id')}",
        "');print('{marker} true');('",
        '"""\nprint(1)\n"""',
    ],
)
def test_code_handed_to_the_grader_itself_gains_nothing(code: str) -> None:
    assert expressions_match(code, "18") is not True


def test_code_runs_where_no_file_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    result = symbolic._grader.sandbox().run_sync(f"open({str(target)!r}, 'w').write('x')", SandboxLimits())
    assert (result.returncode != 0, target.exists()) == (True, False)


def test_an_expression_that_never_ends_is_stopped_and_not_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "LIMITS", SandboxLimits(seconds=2.0, cpu_seconds=1.0))
    assert answers_match("9!!!!!!", "1") is None


def test_an_exponent_bomb_is_stopped_and_not_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "LIMITS", SandboxLimits(seconds=2.0, cpu_seconds=1.0))
    assert answers_match("10^{10^{10^{10}}}", "18") is not True


def test_the_grader_works_after_it_was_killed() -> None:
    import os
    import signal

    os.kill(symbolic._grader.sandbox().pid, signal.SIGKILL)
    expressions_match("x", "y")  # may meet the dying process
    assert expressions_match("2x", "x + x") is True


async def test_it_can_be_called_from_a_running_event_loop() -> None:
    asyncio.get_running_loop()
    assert answers_match("3 + y", "y + 3") is True


def test_threads_share_one_grader() -> None:
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda n: answers_match(f"{n}z + z", f"{n + 1}z"), range(2, 10)))
    assert verdicts == [True] * 8


def test_a_level_that_cannot_be_had_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class SandboxWithoutKernel:
        def __init__(self, *, require: str | None, **_: object) -> None:
            self.require = require

        def run_sync(self, *_: object) -> None:
            raise SandboxError(f"level {self.require} is not available")

        def close(self) -> None: ...

    grader = symbolic._Grader()
    monkeypatch.setattr("astune.tools.sandbox.Sandbox", SandboxWithoutKernel)
    monkeypatch.setattr(symbolic, "_grader", grader)
    symbolic.require_level("kernel")
    with pytest.raises(SandboxError, match="level kernel"):
        expressions_match("x + q", "q + x")
