"""Runs episodes one after another in this process and shows each: for breakpoints in a workflow or a judge.

Nothing is trained. Episodes have no time limit, because a breakpoint takes as long as it takes. Tool
code alone runs elsewhere, in the sandbox.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from astune.backbone import run_folder
from astune.backbone.assemble import RunParts, run_parts
from astune.config.schema import AstuneConfig
from astune.report.html import write_report
from astune.report.metrics import HABIT_LABELS, is_solved, is_ungradable
from astune.report.run_folder import RunFolder
from astune.report.tokens import token_decoder
from astune.task_reader.registry import read_tasks
from astune.task_reader.types import Task
from astune.trace import Episode, Group, ToolCall, Turn


def run(config: AstuneConfig, config_text: str) -> int:
    """Runs ``trainer.prompts_per_step`` episodes, one a task and its refinement, and accounts for how each ended.

    Raises:
        UserError: something in the configuration, the tasks or the model cannot be used.
    """
    console = Console()
    tasks = read_tasks(config.task_reader)
    path = run_folder(config, "debug")
    folder = RunFolder(path.name, path.parent).create()
    chosen = tasks[: config.trainer.prompts_per_step]
    with folder.lock(), run_parts(config) as parts:
        folder.write_config(config_text)
        about = f"{config.task_reader.type}: {len(chosen)} of {len(tasks)}"
        header = replace(parts.header(about), run_folder=str(path))
        for label, text in header.lines():
            console.print(f"[dim]{label:>10}[/dim]  ", Text(text), highlight=False, soft_wrap=True)
        parts.runner.limits = replace(parts.runner.limits, seconds=None, concurrency=1)
        episodes = asyncio.run(_run_all(parts, chosen, folder, console))
    console.print(outcome_table(episodes))
    pages = f"   Report: {folder.report}" if config.tracking.report else ""
    console.print(f"Episodes: {folder.episodes_file(0)}{pages}", highlight=False, soft_wrap=True)
    return 0


async def _run_all(parts: RunParts, tasks: list[Task], folder: RunFolder, console: Console) -> list[Episode]:
    """One answer a task, and its chain of critiques and further attempts where answers are refined.

    An answer is on the disk and on the page as soon as it ended, also when its judge fails.
    """
    episodes: list[Episode] = []
    decode = token_decoder(parts.tokenizer)

    def keep(task: Task, number: int, episode: Episode) -> None:
        episodes.append(episode)
        folder.write_episodes(0, episodes, tasks[: number + 1])
        if parts.config.tracking.report:
            write_report(folder, decode)
        show_episode(console, task, episode)

    for number, task in enumerate(tasks):
        keep_one = partial(keep, task, number)
        first = await parts.runner.run_episode(task, 0, step=0, key=(0, number, 0), on_episode=keep_one)
        if parts.stage is not None:
            group = Group(task.task_id, [first])
            for episode in (await parts.stage.refine([task], [group], 0, parts.sampling)).episodes:
                keep_one(episode)
    return episodes


def show_episode(console: Console, task: Task, episode: Episode) -> None:
    """The whole conversation in the order in which it happened, and the verdict."""
    part = "" if episode.role == "answer" else f"{episode.role} {episode.round} of "
    console.print(Rule(Text(f"{part}{task.task_id}: {outcome(episode)}"), align="left"))
    if episode.role == "answer":
        console.print(Text(f"question   {task.main_query}"))
    for event in episode.in_order():
        if isinstance(event, ToolCall):
            console.print(Text(f"  tool     {event.name}: {event.output}"))
        else:
            _show_turn(console, event)
    if episode.error is not None:
        console.print(Text(f"error      {episode.error}\n{episode.traceback or ''}", style="red"))
    if episode.role != "critique":
        final = episode.judge_input.get("final_answer")
        reward = None if episode.verdict is None else episode.verdict.raw_reward
        console.print(Text(f"verdict    answer {final!r}, reference {task.answer!r}, reward {reward}"))


def _show_turn(console: Console, turn: Turn) -> None:
    if thoughts := turn.message.get("reasoning_content"):
        console.print(Text(f"{turn.agent:<10} <think>{thoughts}</think>"))
    console.print(Text(f"{turn.agent:<10} {turn.message.get('content') or ''}"))
    for call in turn.message.get("tool_calls", ()):
        console.print(Text(f"  call     {call['name']} [{call['status']}] {call['arguments']}"))
    console.print(Text(f"           {len(turn.completion_ids)} tokens, {turn.stop_reason}", style="dim"))


def outcome(episode: Episode) -> str:
    """How an episode ended, in a word or two: every episode has exactly one outcome."""
    if episode.error is not None:
        return f"failed: {episode.stop_reason}"
    if episode.role == "critique":
        return "critique"
    if is_solved(episode):
        return "solved"
    if is_ungradable(episode):
        return "ungradable"
    return "wrong" if episode.stop_reason == "finished" else f"wrong: {episode.stop_reason}"


def outcome_table(episodes: list[Episode]) -> Table:
    """Episodes by outcome, then by bad habit."""
    table = Table(box=None, title=f"{len(episodes)} episodes", title_justify="left")
    table.add_column("outcome")
    table.add_column("episodes", justify="right")
    for name, count in sorted(Counter(map(outcome, episodes)).items()):
        table.add_row(name, str(count))
    for habit, label in HABIT_LABELS.items():
        table.add_row(f"({label})", str(sum(bool(episode.habits.get(habit)) for episode in episodes)))
    return table
