"""``astuner refine``: spends several model calls on one question, and shows each round as it happens."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astune.errors import ConfigError, ContextOverflow

if TYPE_CHECKING:
    from astune.refine.live_view import LiveView
    from astune.refine.loop import Result
    from astune.refine.strategies import Setting
    from astune.refine.transport import SampledModel

#: The bundled policy that criticises and refines.
DEFAULT_MODEL = "nano_refine"
_EPILOG = """\
strategies:
  self_refine              answer, critique, refine, critique, refine, ...; the last attempt is the answer
  self_refine_no_critique  answer, refine, refine, ...: the refiner looks at the attempt alone
  verdict_gated            as self_refine, until the critic calls an attempt correct
  independent_scorer       the judge scores every attempt and says what is wrong; the best by its score (--judge)
  best_of_n                independent attempts; the first with the critic's (or judge's) highest score
  self_consistency         independent attempts; the answer that most of them give
  reflexion                criticised attempts become lessons in a memory, recalled for the next one (--memory)

examples:
  astuner refine --question "On Sunday Lucy runs 8 miles. On 2 other days she runs 5 miles each.
                             How many miles is that in a week?"
  astuner refine --strategy self_consistency --rounds 8 --question "..." --json
  OPENAI_API_KEY=... astuner refine --base-url http://127.0.0.1:8000/v1 --model my-model --question "..."
"""


def refine_parser() -> argparse.ArgumentParser:
    """The arguments of ``astuner refine``."""
    parser = argparse.ArgumentParser(
        prog="astuner refine",
        description="Answers a question in several rounds: generate, score, reflect, and keep the best.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("--question", metavar="TEXT", help="what to answer; '-' reads it from standard input")
    parser.add_argument("--system", metavar="TEXT", help="system prompt of the answer")
    parser.add_argument("--strategy", default="self_refine", metavar="NAME", help="see below (default: self_refine)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="most attempts (default: 3)")
    _add_models(parser)
    limits = parser.add_argument_group("budgets: the loop ends at the first that is used up")
    limits.add_argument("--budget-tokens", type=int, metavar="N", help="sampled tokens")
    limits.add_argument("--budget-seconds", type=float, metavar="S", help="time spent in model calls")
    limits.add_argument("--budget-cost", type=float, metavar="X", help="money, at the prices of --prices")
    files = parser.add_argument_group("files and output")
    files.add_argument("--memory", type=Path, metavar="FILE", help="reflexion: keep lessons here across runs (SQLite)")
    files.add_argument("--record", type=Path, metavar="FILE", help="write every round as JSON")
    files.add_argument("--replay", type=Path, metavar="FILE", help="show a recorded run again, without any model")
    files.add_argument("--json", action="store_true", help="print the record as JSON on standard output, nothing else")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    models = parser.add_argument_group("models")
    models.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="PATH|NAME",
        help="a model folder, nano or nano_refine (default: %(default)s); with --base-url its name there",
    )
    models.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible endpoint, http://HOST:PORT/v1")
    models.add_argument("--judge", metavar="PATH|NAME", help="a second model as scorer")
    models.add_argument("--judge-base-url", metavar="URL", help="where the judge is served; without, it runs here")
    models.add_argument(
        "--api-key-env", default="OPENAI_API_KEY", metavar="NAME", help="variable with the key (OPENAI_API_KEY)"
    )
    models.add_argument(
        "--judge-api-key-env", metavar="NAME", help="variable with the judge's key (default: that of --api-key-env)"
    )
    models.add_argument(
        "--prices", nargs=2, type=float, metavar=("IN", "OUT"), help="of a million tokens read, sampled"
    )
    models.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1)")
    models.add_argument("--max-tokens", type=int, default=512, metavar="N", help="of one reply (default: 512)")
    models.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed draws other replies (default: 0)"
    )


def run_refine(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status.

    Raises:
        AstuneError: bad input, or a model that cannot be asked.
    """
    return _replay(options) if options.replay else _run(options)


def _run(options: argparse.Namespace) -> int:
    question = _question(options)
    _check(options)
    import asyncio

    from astune.refine.memory import EpisodicMemory
    from astune.refine.replay import Record
    from astune.refine.strategies import make_strategy

    messages = [{"role": "user", "content": question}]
    if options.system:
        messages.insert(0, {"role": "system", "content": options.system})
    with ExitStack() as stack:
        memory = stack.enter_context(EpisodicMemory(options.memory)) if options.memory else None
        setting = _setting(options, messages, memory)
        strategy = make_strategy(options.strategy, setting)
        view = stack.enter_context(_view(options, f"{options.strategy} on {setting.model.name}", question))
        try:
            result = asyncio.run(strategy.run(watch=view.watch))
        except ContextOverflow as error:  # only of a first round: a later one ends the loop and keeps what it has
            raise ConfigError(f"the question is too long: {error}; shorten it, or take another --model") from error
        record = Record.of(result, about=_about(options, setting, question))
        view.finish(result, record.about)
        if options.record:
            record.save(options.record)
    return 0


def _about(options: argparse.Namespace, setting: Setting, question: str) -> dict[str, Any]:
    """What the record says of the run; a replay makes the same strategy from it."""
    return {
        "question": question,
        "strategy": options.strategy,
        "rounds": options.rounds,
        "model": setting.model.name,
        "judge": None if setting.judge is None else setting.judge.name,
        "budget": {name: getattr(options, f"budget_{name}") for name in ("tokens", "seconds", "cost")},
        "temperature": options.temperature,
        "seed": options.seed,
    }


def _replay(options: argparse.Namespace) -> int:
    from astune.refine.replay import Record, RecordError, replay
    from astune.refine.strategies import make_strategy

    record = Record.load(options.replay)
    about = record.about
    try:
        setting = _recorded_setting(about)
        strategy = make_strategy(about["strategy"], setting)
        title, question = f"replay of {about['strategy']} on {about['model']}", about["question"]
    except (KeyError, TypeError) as error:
        raise RecordError(f"{options.replay} was not written by astuner refine: it lacks {error}") from error
    with _view(options, title, question) as view:
        result = replay(record, stop=strategy.stop, select=strategy.select, watch=view.watch)
        view.finish(result, about)
    return 0


# --- what the options mean --------------------------------------------------------------------------------------


def _question(options: argparse.Namespace) -> str:
    text = sys.stdin.read() if options.question == "-" else options.question
    if text is None or not text.strip():
        raise ConfigError('--question is missing; for example: --question "A pen costs 3 euros. What do 12 cost?"')
    return str(text).strip()


def _check(options: argparse.Namespace) -> None:
    """What can be said before a model is loaded."""
    from astune.refine.strategies import strategy_named

    strategy_named(options.strategy)
    for name, least in (("rounds", 1), ("max_tokens", 1), ("temperature", 0)):
        value = getattr(options, name)
        if not value >= least:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: give at least {least}")
    if options.base_url and options.model == DEFAULT_MODEL:
        raise ConfigError("--base-url needs --model NAME: what the model is called there")
    if options.judge_base_url and not options.judge:
        raise ConfigError("--judge-base-url needs --judge NAME: what the judge is called there")
    if options.strategy == "independent_scorer" and not options.judge:
        raise ConfigError("the strategy independent_scorer needs a second model: name one with --judge")
    if options.memory and options.strategy != "reflexion":
        raise ConfigError(f"--memory is for --strategy reflexion; {options.strategy} remembers nothing")
    if options.budget_cost is not None and options.prices is None:
        raise ConfigError("--budget-cost needs --prices IN OUT: what a million tokens cost")


def _setting(options: argparse.Namespace, messages: list[dict[str, Any]], memory: Any) -> Setting:
    from astune.refine.strategies import Setting

    model = _model(options, options.model, options.base_url, options.api_key_env)
    judge = None
    if options.judge:
        key_env = options.judge_api_key_env or options.api_key_env
        judge = _model(options, options.judge, options.judge_base_url, key_env)
    budget = _budget(options.budget_tokens, options.budget_seconds, options.budget_cost)
    return Setting(model, messages, options.rounds, judge=judge, memory=memory, budget=budget)


def _model(options: argparse.Namespace, name: str, base_url: str | None, key_env: str) -> SampledModel:
    from astune.refine.transport import endpoint_model, local_model

    sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens, "seed": options.seed}
    prices = tuple(options.prices) if options.prices else (0.0, 0.0)
    if base_url is None:
        return local_model(name, **sampling)
    return endpoint_model(base_url, name, api_key_env=key_env, prices=prices, **sampling)


def _budget(tokens: int | None, seconds: float | None, cost: float | None) -> Any:
    from functools import reduce
    from operator import or_

    from astune.refine.stop import Cost, Seconds, StopCondition, Tokens

    limits: list[StopCondition] = []
    limits += [] if tokens is None else [Tokens(tokens)]
    limits += [] if seconds is None else [Seconds(seconds)]
    limits += [] if cost is None else [Cost(cost)]
    return reduce(or_, limits) if limits else None


def _recorded_setting(about: dict[str, Any]) -> Setting:
    from astune.refine.strategies import Setting
    from astune.refine.transport import AbsentModel

    judge = None if about["judge"] is None else AbsentModel(about["judge"])
    return Setting(
        AbsentModel(about["model"]),
        [{"role": "user", "content": about["question"]}],
        about["rounds"],
        judge=judge,
        budget=_budget(**about["budget"]),
    )


# --- output -----------------------------------------------------------------------------------------------------


def _view(options: argparse.Namespace, title: str, question: str) -> AbstractContextManager[LiveView | _JsonView]:
    if options.json:
        return _JsonView()
    from astune.refine.live_view import LiveView

    return LiveView(title, question)


class _JsonView:
    """Says nothing until the end, and then one document."""

    watch = None

    def __enter__(self) -> _JsonView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def finish(self, result: Result[str, str], about: dict[str, Any]) -> None:
        from dataclasses import asdict

        from astune.refine.replay import Record

        document = {
            "answer": result.chosen.candidate,
            "attempt": result.chosen.number,
            "error": result.error,
            "usage": asdict(result.state.usage),
            "seconds": round(result.state.seconds, 3),
            "record": Record.of(result, about=about).document(),
        }
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
