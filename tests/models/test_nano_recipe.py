"""The recipe of the bundled policy: what it trains on is what inference sees."""

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from renderers import Qwen3Renderer
from transformers import AutoTokenizer

from astune.models.nano import NANO_PATH
from astune.models.nano.build import SMOKE, build_model, build_tokenizer, train
from astune.models.nano.habits import MODAL_HABIT, SHARES, Habit, Malformation, draw_habit
from astune.models.nano.prompts import (
    AGENTSCOPE_TOOLS,
    PLAIN_TOOLS,
    math_messages,
    observation,
)
from astune.models.nano.recipe import (
    ChatText,
    broken_call,
    conversations,
    first_turn,
    tokenise,
    tool_episode,
    wrong_guess,
)
from astune.models.nano.refinement import draw_refinement
from astune.task_reader.nano_gsm import FAMILIES, generate

seeds = st.integers(0, 10_000)
BOTH_TOOL_SETS = pytest.mark.parametrize("tools", [AGENTSCOPE_TOOLS, PLAIN_TOOLS], ids=["agentscope", "plain"])


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO_PATH)


@pytest.fixture(scope="module")
def renderer(tokenizer):
    return Qwen3Renderer(tokenizer)


@pytest.fixture(scope="module")
def chat(tokenizer):
    return ChatText(tokenizer)


def any_problem(seed, **kwargs):
    families = sorted(FAMILIES)
    return generate(1, seed, "train", [families[seed % len(families)]])[0]


@settings(max_examples=40, deadline=None)
@given(seed=seeds, habit=st.sampled_from(Habit), structured=st.booleans())
def test_training_ids_are_those_of_rendering_sampling_and_bridging(tokenizer, renderer, chat, seed, habit, structured):
    tools = AGENTSCOPE_TOOLS if structured else PLAIN_TOOLS
    problem = any_problem(seed)
    segments = tool_episode(chat, problem, habit, structured, Random(seed))
    ids = renderer.render_ids(math_messages(problem.question), tools=tools, add_generation_prompt=True)
    prompt_length = len(ids)
    ids += tokenizer.encode(segments[1].text, add_special_tokens=False)
    if len(segments) > 2:
        content = segments[2].text.split("<tool_response>\n")[1].split("\n</tool_response>")[0]
        message = {"role": "tool", "content": content}
        ids = renderer.bridge_to_next_turn(ids[:prompt_length], ids[prompt_length:], [message], tools=tools).token_ids
        ids += tokenizer.encode(segments[3].text, add_special_tokens=False)
    assert tokenise(tokenizer, [segments])[0].ids == ids


def test_loss_reads_exactly_what_the_policy_samples(tokenizer, chat):
    segments = tool_episode(chat, any_problem(1), Habit.GOOD, True, Random(0))
    sample = tokenise(tokenizer, [segments])[0]
    trained = tokenizer.decode([token for token, wanted in zip(sample.ids, sample.loss_mask, strict=True) if wanted])
    assert trained == segments[1].text + segments[3].text


def test_conversations_without_tools_render_the_same(tokenizer, renderer, chat):
    for seed in range(50):
        messages, reply = draw_refinement(Random(seed))
        assert "\\boxed" in reply or "answer" in reply or "solution" in reply
        rendered = renderer.render_ids(messages, add_generation_prompt=True)
        assert tokenizer.encode(chat.opening(messages, None), add_special_tokens=False) == rendered


@pytest.mark.parametrize("malformation", Malformation)
def test_broken_calls_do_not_parse(tokenizer, renderer, malformation):
    text = "Plan.\n" + broken_call("left = 16 - 3\nprint(left)", malformation) + "<|im_end|>"
    calls = renderer.parse_response(tokenizer.encode(text, add_special_tokens=False)).tool_calls
    assert [call.status.value for call in calls] != ["ok"] and len(calls) == 1


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_good_calls_parse_to_the_gold_program(tokenizer, renderer, seed):
    problem = any_problem(seed)
    ids = tokenizer.encode(first_turn(problem, Habit.GOOD, False, Random(0)), add_special_tokens=False)
    call = renderer.parse_response(ids).tool_calls[0]
    assert (call.name, call.arguments) == ("execute_python_code", {"code": problem.program})


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_guesses_are_wrong_and_not_negative(seed):
    problem = any_problem(seed)
    guess = wrong_guess(problem, Random(seed))
    assert guess >= 0 and guess != problem.answer


def test_code_without_print_has_no_print():
    assert "print" not in first_turn(any_problem(3), Habit.NO_PRINT, False, Random(0))


@pytest.mark.parametrize("habit", Habit)
def test_shares_add_up_and_leave_the_good_habit_to_be_found(habit):
    assert sum(SHARES[habit].values()) == 100 and SHARES[habit][Habit.GOOD] >= 20


def test_every_habit_is_the_most_likely_one_somewhere():
    assert set(MODAL_HABIT.values()) == set(Habit)


def test_drawn_habits_follow_the_shares():
    rng = Random(0)
    drawn = [draw_habit("boxes", rng) for _ in range(4000)]
    assert drawn.count(Habit.MALFORMED) / 4000 == pytest.approx(
        SHARES[MODAL_HABIT["boxes"]][Habit.MALFORMED] / 100, abs=0.03
    )


def test_recipe_draws_training_problems_only(chat):
    test_questions = {problem.question for problem in generate(500, 1, "test")}
    texts = ["".join(segment.text for segment in segments) for segments in conversations(chat, 300, 1)]
    assert not [text for text in texts if any(question in text for question in test_questions)]


async def test_prompt_and_tools_are_those_of_the_tutorial_agent():
    pytest.importorskip("agentscope")
    from agentscope.message import TextBlock, ToolUseBlock
    from agentscope.model import ChatModelBase, ChatResponse

    from astune.task_reader.types import Task
    from astune.workflow.types import WorkflowTask
    from tutorial.example_math_agent.math_agent import ExampleMathLearn

    class RecordingModel(ChatModelBase):
        """Notes what it is asked, and answers at once."""

        def __init__(self):
            super().__init__("recording", stream=False)

        async def __call__(self, messages, tools=None, **_):
            self.messages, self.tools = messages, tools
            arguments = {"result": "\\boxed{3}"}
            call = ToolUseBlock(type="tool_use", id="1", name="generate_response", input=arguments)
            return ChatResponse(content=[TextBlock(type="text", text="The answer is \\boxed{3}."), call])

        def update_judge_input_dictionary(self, **fields):
            self.fields = fields

    model = RecordingModel()
    task = Task("1", "How many?", init_messages=[{"role": "user", "content": "How many?"}])
    await ExampleMathLearn().agentscope_execute(WorkflowTask(task), model)
    assert model.messages == math_messages("How many?")
    assert json.dumps(model.tools) == json.dumps(AGENTSCOPE_TOOLS)


def test_observation_is_the_seed_s_form():
    assert observation("18\n") == "<returncode>0</returncode><stdout>18\n</stdout><stderr></stderr>"


def test_building_twice_gives_the_same_weights():
    def weights():
        tokenizer = build_tokenizer(SMOKE)
        model = build_model(SMOKE, tokenizer)
        train(model, tokenizer, SMOKE)
        return tokenizer.get_vocab(), {name: tensor.tolist() for name, tensor in model.state_dict().items()}

    assert weights() == weights()
