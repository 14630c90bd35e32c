"""The code checker against honest functions and against code that tries to be called right without being so."""

import json
from itertools import pairwise
from random import Random

import pytest

from astune.tools.python_tool import use_sandbox
from astune.tools.sandbox import Sandbox
from autorl_bench.scenarios.checkers import python_function
from autorl_bench.scenarios.checkers.python_function import PythonFunction, code_of, same
from autorl_bench.scenarios.checkers.python_subset import why_refused
from autorl_bench.scenarios.generators.python_function import PythonFunctions
from autorl_bench.types import Item

TESTS = [[[[1, 2, 3]], 6], [[[]], 0], [[[-4, 5]], 1]]
ITEM = Item("code/1", [], json.dumps({"function": "f", "tests": TESTS}))
RIGHT = "def f(xs):\n    return sum(xs)"


@pytest.fixture(scope="module", autouse=True)
def sandbox():
    with Sandbox() as sandbox, use_sandbox(sandbox):
        yield sandbox


async def grade(completion: str, item: Item = ITEM) -> bool | None:
    return await PythonFunction(seconds=1.5, cpu_seconds=1.0).grade(item, completion)


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT,
        f"Here it is:\n```python\n{RIGHT}\n```\nIt adds them.",
        f"```python\ndef f(xs):\n    return 0\n```\nNo, rather:\n```\n{RIGHT}\n```",
        "from functools import reduce\ndef f(xs):\n    return reduce(lambda a, b: a + b, xs, 0)",
        "import math\nfrom typing import List\ndef f(xs: List[int]) -> int:\n    return math.gcd(1) * sum(xs)",
        "def f(xs):\n    total = 0\n    for x in xs:\n        print(x)\n        total += x\n    return float(total)",
        "def f(xs):\n    try:\n        return xs[0] + f(xs[1:])\n    except IndexError:\n        return 0",
        "def f(xs):\n    xs.append(1)\n    return sum(xs) - 1",
    ],
)
async def test_a_function_that_returns_the_right_values_is_right(completion):
    assert await grade(completion) is True


@pytest.mark.parametrize(
    "code",
    [
        "",
        "def f(xs):",
        "def f(xs):\n    return 6",
        "def g(xs):\n    return sum(xs)",
        "def f():\n    return 6",
        "def f(xs):\n    return str(sum(xs))",
        "def f(xs):\n    return [sum(xs)]",
        "def f(xs):\n    return 1 / 0",
        "def f(xs):\n    return {1, 2}",
        "def f(xs):\n    return sum(xs) if xs else float('nan')",
        "f = 6",
        "def f(xs):\n    yield sum(xs)",
    ],
)
async def test_a_function_that_does_not_is_wrong(code):
    assert await grade(code) is False


ENDLESS = {
    "a loop": "def f(xs):\n    while True:\n        pass",
    "memory": "def f(xs):\n    return len([0] * 10 ** 10)",
    "recursion": "def f(xs):\n    return f(xs)",
    "a big power": "def f(xs):\n    return 9 ** 9 ** 9",
    "output": "def f(xs):\n    while True:\n        print('x' * 1000)",
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_code_without_an_end_is_stopped_and_wrong(name):
    assert await grade(ENDLESS[name]) is False


#: Code that aims at the grader. Each is refused by the subset, and is tried once more without the subset.
ATTACKS = {
    "exit": "import sys\nsys.exit(0)",
    "hard exit": "import os\nos._exit(0)",
    "exit in the function": "import os\ndef f(xs):\n    os._exit(0)",
    "raise SystemExit": "def f(xs):\n    raise SystemExit(0)",
    "equal to everything": "class E(int):\n    __eq__ = lambda *_: True\ndef f(xs):\n    return E(7)",
    "a number that writes itself otherwise": (
        "class Odd(int):\n    def __repr__(self):\n        return '6'\ndef f(xs):\n    return Odd(7)"
    ),
    "builtins replaced": "import builtins\nbuiltins.sum = builtins.all = lambda *_: True\ndef f(xs):\n    return True",
    "json replaced": "import json\njson.dumps = lambda *_, **__: '[true]'\ndef f(xs):\n    return 1",
    "print replaced": "import builtins\nbuiltins.print = lambda *_: None\ndef f(xs):\n    return 1",
    "success printed": "print('OK', 'passed', True, '[6, 0, 1]')\nraise SystemExit(0)",
    "the caller's frame": (
        "import sys, json\nframe = sys._getframe(1)\n"
        "task = frame.f_globals['task']\n"
        "print(task['nonce'], json.dumps([t.get('expected') for t in [task] * 3]))\nimport os\nos._exit(0)"
    ),
    "all objects searched for the answers": (
        "import gc\ndef f(xs):\n"
        "    found = [o for o in gc.get_objects() if isinstance(o, list) and len(o) == 2 and o[0] == [xs]]\n"
        "    return found[0][1]"
    ),
    "the checker replaced": (
        "import autorl_bench.scenarios.checkers.python_function as c\n"
        "c.same = lambda *_: True\ndef f(xs):\n    return 7"
    ),
    "the reference read": (
        "from autorl_bench.scenarios.generators.python_function import PythonFunctions\ndef f(xs):\n    return 7"
    ),
    "an exit handler": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(xs):\n    return 7",
    "two results": (
        "import sys\nnonce = sys._getframe(1).f_globals['task']['nonce']\n"
        "print(nonce, '[6, 0, 0]')\ndef f(xs):\n    return 7"
    ),
    "the parent killed": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\ndef f(xs):\n    return 7",
    "match by text": (
        "class M(type):\n    def __instancecheck__(cls, x):\n        return True\n"
        "class C(metaclass=M):\n    __match_args__ = ('__globals__',)\n"
        "def f(xs):\n    match f:\n        case C(g):\n            return len(g)"
    ),
    "a generator's frame": "def f(xs):\n    g = (x for x in xs)\n    return len(g.gi_frame.f_back.f_globals)",
    "eval": "def f(xs):\n    return eval('1 + 1')",
    "a dunder by name": "def f(xs):\n    return __builtins__['sum']([1])",
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_on_the_grader_is_wrong(name):
    assert await grade(ATTACKS[name]) is False


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_gains_nothing_where_it_runs_either(name, monkeypatch):
    monkeypatch.setattr(python_function, "why_refused", lambda code: None)
    assert await grade(ATTACKS[name]) is False


async def test_the_sandbox_is_given_the_inputs_and_no_expected_value(monkeypatch):
    sent = []

    async def record(self, code, function, inputs):
        sent.append((code, function, inputs))
        return [6, 0, 1]

    monkeypatch.setattr(PythonFunction, "_run", record)
    assert await grade(RIGHT) is True
    assert sent == [(RIGHT, "f", [arguments for arguments, _ in TESTS])]


async def test_the_grader_lives_on_after_an_attack(sandbox):
    before = sandbox.pid
    await grade(ATTACKS["the parent killed"])
    assert await grade(RIGHT) is True
    assert sandbox.pid == before


@pytest.mark.parametrize(
    "code",
    [
        "(" * 3000,
        "-" * 3900 + "1",
        "[" * 1500 + "]" * 1500,
        "not " * 900 + "x",
        "x = '" + "\\0" * 9,
        "#" * 5000,
        "\x00",
    ],
)
def test_text_that_strains_the_parser_is_refused_or_read(code):
    assert why_refused(code) is None or isinstance(why_refused(code), str)


def test_what_is_outside_the_subset_is_named():
    assert why_refused("import os") == "import os"
    assert why_refused("from collections import abc") == "from collections import abc"
    assert why_refused("from . import x") == "from . import x"
    assert why_refused("x.__class__") == "the attribute __class__"


@pytest.mark.parametrize(
    "returned, expected, equal",
    [
        (2, 2, True),
        (2.0, 2, True),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        ([1, [2]], [1, [2]], True),
        ([1], [1, 2], False),
        ("1", 1, False),
        (None, 0, False),
    ],
)
def test_values_are_compared_with_their_kind(returned, expected, equal):
    assert same(returned, expected) is equal


def test_code_is_the_last_fenced_block_or_all_of_the_text():
    assert code_of("```py\nx\n```\ntext\n```\ny\n```") == "y\n"
    assert code_of("def f(): ...") == "def f(): ..."


async def test_every_generated_solution_passes_its_own_hidden_tests():
    rng = Random(1)
    for problem in [PythonFunctions().draw(rng, i) for i in range(40)]:
        assert await grade(problem.solution, Item("code/2", [], problem.target)) is True, problem.question


async def test_hidden_tests_tell_neighbouring_functions_apart():
    rng, told_apart = Random(2), 0
    problems = [PythonFunctions().draw(rng, i) for i in range(30)]
    for problem, other in pairwise(problems):
        told_apart += problem.key != other.key and not await grade(other.solution, Item("c", [], problem.target))
    assert told_apart >= 28
