import pytest

from astune.errors import ConfigError
from astune.refine.prompts import Prompts, bundled_prompts, question_text, without_controls

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is {answer}?"}]


def test_system_prompts_are_those_that_were_asked_for():
    critique, refine = bundled_prompts().critique_system, bundled_prompts().refine_system
    assert critique.startswith("You are a critical reviewer. Evaluate the given solution and provide constructive")
    assert "internal analysis, \nfollowed by clear, actionable feedback." in critique
    assert refine.startswith("You are a problem solver. Given a question and feedback on a previous attempt, \nprovide")
    assert refine.endswith("<answer>Clear, well-formatted solution with final answer in \\boxed{}</answer>")


def test_the_critic_reads_question_and_answer_and_braces_in_them_stay():
    [system, user] = bundled_prompts().critique(ASKED, "It is {question}.")
    assert system["role"] == "system"
    assert user["content"] == "Question:\nWhat is {answer}?\n\nSolution:\nIt is {question}."


def test_refining_without_a_critique_does_not_say_that_the_answer_is_wrong():
    [_, user] = bundled_prompts().refine(ASKED, "18")
    assert "Previous attempt:\n18" in user["content"]
    assert "There may be an error" in user["content"]


def test_images_reach_critic_and_refiner():
    image = {"type": "image", "image": "pixels"}
    asked = [{"role": "user", "content": [image, {"type": "text", "text": "How many?"}]}]
    for messages in (bundled_prompts().critique(asked, "3"), bundled_prompts().refine(asked, "3", "Count again.")):
        assert messages[-1]["content"][0] == image
        assert "How many?" in question_text(messages)


def test_a_folder_overrides_single_prompts(tmp_path):
    (tmp_path / "refine_system.txt").write_text("Improve it.\n")
    prompts = Prompts.load(tmp_path)
    assert prompts.refine_system == "Improve it."
    assert prompts.critique_system == bundled_prompts().critique_system


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("refiner.txt", "x", "is no prompt"), ("critique_user.txt", "{question}", "has no {answer}")],
)
def test_a_wrong_prompt_file_is_named(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name) as raised:
        Prompts.load(tmp_path)
    assert says in str(raised.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        Prompts.load(tmp_path / "nowhere")


def test_a_control_token_in_a_text_part_becomes_a_space_and_images_stay():
    image = {"type": "image", "image": "pixels"}
    message = {"role": "user", "content": [image, {"type": "text", "text": "It is<|end|>23."}]}
    [cleaned] = without_controls([message], ["<|end|>"])
    assert cleaned["content"] == [image, {"type": "text", "text": "It is 23."}]
