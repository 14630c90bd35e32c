"""What a model answers is read strictly, and what is wrong with it is said."""

import pytest

from agents.rdagent.drivers.answers import UnusableAnswer, read_answer

GOOD = """I think so.

```json
{"hypothesis": "A smaller step helps.", "reason": "It fell.", "seconds": 30}
```

```python
print("train")
```
"""


def test_a_whole_answer_is_read():
    answer = read_answer(GOOD)
    assert (answer.hypothesis, answer.reason, answer.seconds) == ("A smaller step helps.", "It fell.", 30.0)
    assert answer.code == 'print("train")\n'


def test_thoughts_are_left_out_and_the_last_script_counts():
    text = f"<think>```python\nprint('draft')\n```</think>{GOOD}```py\nprint('final')\n```"
    assert read_answer(text).code == "print('final')\n"


def test_a_hypothesis_outside_a_block_is_found():
    text = '{"hypothesis": "More steps."}\n```python\npass\n```'
    assert read_answer(text).hypothesis == "More steps."


@pytest.mark.parametrize("seconds", ['"soon"', "-3", "true", "null", "1e999"])
def test_a_time_that_makes_no_sense_is_none(seconds):
    assert read_answer(GOOD.replace('"seconds": 30', f'"seconds": {seconds}')).seconds is None


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "it is empty"),
        ("<think>hm</think>  ", "it is empty"),
        ("I can't help with that.", "there is no python block"),
        ('```json\n{"hypothesis": "x"}\n```', "there is no python block"),
        ('```json\n{"hypothesis": "x"}\n```\n```python\nprint(', "it was cut off"),
        ("```python\npass\n```", "there is no json block"),
        ('```json\n{"hypothesis": \n```\n```python\npass\n```', "is not JSON"),
        ('```json\n{"hypothesis": ""}\n```\n```python\npass\n```', 'has no "hypothesis"'),
        ("```json\n[1]\n```\n```python\npass\n```", 'has no "hypothesis"'),
        ('```json\n{"hypothesis": "x"}\n```\n```python\ndef f(:\n```', "is not Python"),
        ('```json\n{"hypothesis": "x"}\n```\n```python\n' + "x = 1\n" * 20_000 + "```", "characters"),
    ],
)
def test_what_is_wrong_is_said(text, problem):
    with pytest.raises(UnusableAnswer, match=problem):
        read_answer(text)
