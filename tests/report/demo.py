"""A run folder with made-up episodes: real records, a real tokenizer, and a policy that only pretends to learn."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from astune.report.html import write_report
from astune.report.metrics import HABITS, evaluate, step_metrics
from astune.report.plots import write_reward_curve
from astune.report.run_folder import RunFolder
from astune.report.summary import paired_summary, summarise, write_summary
from astune.task_reader.types import Task
from astune.trace import Episode, Group, StopReason, ToolCall, Trajectory, Turn, Verdict

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>", "<tool_response>",
           "</tool_response>"]  # fmt: skip
SYSTEM = (
    "You solve math word problems. Break the problem down, compute with Python code that prints the result, wait for "
    "the tool response, then give the final answer within \\boxed{}.\n\n# Tools\n\n<tools>\n"
    '{"type": "function", "function": {"name": "execute_python_code", "parameters": {"properties": {"code": '
    '{"description": "The Python code to run.", "type": "string"}}, "required": ["code"], "type": "object"}}}\n</tools>'
)
PEOPLE = ("Maya", "Tom", "Ines", "Ravi", "Lena", "Omar")
THINGS = ("eggs", "pencils", "tickets", "apples", "stickers")


def make_task(index: int) -> Task:
    """The ``index``-th problem."""
    rng = random.Random(index)
    who, what = rng.choice(PEOPLE), rng.choice(THINGS)
    have, days, price = rng.randrange(6, 25), rng.randrange(2, 8), rng.randrange(2, 9)
    question = (
        f"{who} gets {have} {what} a day for {days} days and sells all of them for ${price} each. "
        f"How many dollars does {who} make?"
    )
    return Task(f"nano_gsm/test/{index}", question, str(have * days * price), metadata={"factors": [have, days, price]})


class Conversation:
    """Builds one trajectory from text, with made-up log-probabilities."""

    def __init__(self, task: Task, rng: random.Random, confidence: float) -> None:
        self.rng, self.confidence = rng, confidence
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.logprobs: list[float] = []
        self.turns: list[Turn] = []
        self.read(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{task.main_query}<|im_end|>\n")

    def read(self, text: str) -> None:
        """Tokens that the model is given."""
        new = encode(text)
        self.ids += new
        self.mask += [0] * len(new)
        self.logprobs += [0.0] * len(new)

    def sample(self, text: str) -> None:
        """One assistant turn."""
        self.read("<|im_start|>assistant\n")
        new, prompt = encode(text + "<|im_end|>"), list(self.ids)
        scale = 0.6 * (1 - self.confidence) + 0.01
        values = [-self.rng.expovariate(1 / scale) * (self.rng.random() < 0.45) - 1e-4 for _ in new]
        self.ids += new
        self.mask += [1] * len(new)
        self.logprobs += values
        self.turns.append(Turn(prompt, new, values, StopReason.EOS, cached_tokens=len(prompt) // 2))

    def tool_response(self, stdout: str) -> None:
        """What the tool printed."""
        text = f"<returncode>0</returncode><stdout>{stdout}</stdout><stderr></stderr>"
        self.read(f"\n<|im_start|>user\n<tool_response>\n{text}\n</tool_response><|im_end|>\n")

    def trajectory(self) -> Trajectory:
        """What was said so far."""
        return Trajectory(self.ids, self.mask, self.logprobs, self.turns)


def make_episode(task: Task, sample_index: int, habit: str | None, skill: float, seed: int) -> Episode:
    """One episode that shows ``habit`` (or none); without one it answers correctly with probability ``skill``."""
    rng = random.Random(f"{task.task_id} {sample_index} {seed}")
    talk = Conversation(task, rng, confidence=0.9 if skill > 0.9 else 0.35)
    a, b, c = task.metadata["factors"]
    product = f"{a} * {b} * {c}"
    printed = f"{a * b * c}\n"
    code = f"total = {product}" if habit == "no_print" else f"total = {product}\nprint(total)"
    call = json.dumps({"name": "execute_python_code", "arguments": {"code": code}})
    if habit == "malformed_call":
        call = call[:-1]
    solved = habit is None and rng.random() < skill
    guess = task.answer if solved else str(a * b + c)
    opening = f"There are {a} a day for {b} days, at {c} dollars each.\n<tool_call>\n{call}\n</tool_call>"
    calls: list[ToolCall] = []
    if habit == "premature_answer":
        talk.sample(f"{opening}\nThe answer is \\boxed{{{guess}}}.")
    else:
        talk.sample(opening)
        stdout = printed if habit is None else ""
        talk.tool_response(stdout if habit != "malformed_call" else "FunctionNotFoundError: invalid_tool_call")
        talk.sample(f"The answer is \\boxed{{{guess}}}.")
        calls = [ToolCall("execute_python_code", {"code": code}, stdout, 0, "exit", 0.002)]
    return Episode(
        task_id=task.task_id,
        sample_index=sample_index,
        trajectories=[talk.trajectory()],
        judge_input={"final_answer": guess},
        verdict=Verdict(1.0 if solved else -0.3 * bool(habit), solved, {"correct": float(solved)}),
        tool_calls=calls,
        habits={name: name == habit for name in HABITS},
    )


def make_episodes(tasks: list[Task], progress: float, seed: int, samples: int = 1) -> list[Episode]:
    """Episodes of a policy that is ``progress`` (0..1) of the way from bad habits to none."""
    rng = random.Random(f"{progress} {seed}")
    shares = [0.24 * (1 - progress), 0.2 * (1 - progress), 0.14 * (1 - progress)]
    weights = [*shares, 1 - sum(shares)]
    return [
        make_episode(task, index, rng.choices([*HABITS, None], weights)[0], 0.88 + 0.1 * progress, seed)
        for task in tasks
        for index in range(samples)
    ]


@cache
def tokenizer() -> Tokenizer:
    """A small byte-level BPE with Qwen's special tokens, trained on the problems' own words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    wording = [
        SYSTEM,
        '{"name": "execute_python_code", "arguments": {"code": "total = print(total)"}}',
        "The answer is \\boxed{. There are a day for days, at dollars each.",
        "<returncode>0</returncode><stdout></stdout><stderr></stderr>",
    ]
    texts = [make_task(index).main_query for index in range(200)] + 5 * wording
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


def encode(text: str) -> list[int]:
    """Token ids of ``text``."""
    ids: list[int] = tokenizer().encode(text).ids
    return ids


def decode(id_: int) -> str:
    """Text of one token."""
    text: str = tokenizer().decode([id_], skip_special_tokens=False)
    return text


def make_run(root: Path, steps: int = 60, heldout: int = 60, decoder: Callable[[int], str] = decode) -> RunFolder:
    """A finished run folder: metrics, timings, evaluations, summary, plot and report."""
    folder = RunFolder("nano-math-agent", root).create()
    folder.truncate_after(0)
    folder.write_config("astune:\n  task_reader:\n    type: nano_gsm\n  trainer:\n    algorithm: grpo\n    steps: 60\n")
    tasks = [make_task(index) for index in range(heldout)]
    folder.write_heldout_tasks(tasks)
    passes: dict[str, list[list[Episode]]] = {"sampled": [], "greedy": []}
    for step in range(steps + 1):
        progress = step / steps
        if step:
            _train_step(folder, step, progress)
        if step % max(1, steps // 4) == 0:
            for offset, mode in enumerate(passes):
                episodes = make_episodes(tasks, progress**0.6, seed=step + offset)
                folder.write_evaluation(evaluate(episodes, step, mode), episodes)
                passes[mode].append(episodes)
    _summarise(folder, passes, steps)
    write_reward_curve(folder)
    write_report(folder, decoder)
    return folder


def _train_step(folder: RunFolder, step: int, progress: float) -> None:
    tasks = [make_task(10_000 + 4 * step + index) for index in range(4)]
    groups = [Group(task.task_id, make_episodes([task], progress**0.6, seed=step, samples=8)) for task in tasks]
    metrics = step_metrics(groups)
    folder.append_metrics(step, metrics | {"loss": 0.02 * (1 - progress), "learning_rate": 1e-4, "grad_norm": 0.4})
    folder.append_timings(step, {"seconds": 1.9, "tokens_per_second": 5200.0 + step})
    if step % 20 == 0:
        folder.write_episodes(step, [episode for group in groups for episode in group.episodes])


def _summarise(folder: RunFolder, passes: dict[str, list[list[Episode]]], steps: int) -> None:
    first_and_last = {
        mode: (evaluate(found[0], 0, mode), evaluate(found[-1], steps, mode)) for mode, found in passes.items()
    }
    paired = paired_summary(passes["sampled"][0], passes["sampled"][-1])
    summary = summarise(
        first_and_last["sampled"],
        first_and_last["greedy"],
        train_seconds=1.9 * steps,
        steps=steps,
        seed=7,
        peak_rss=1_340_000_000,
        extra={"model": "made-up policy", **paired},
    )
    write_summary(folder, summary)
