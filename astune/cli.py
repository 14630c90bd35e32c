"""The `astuner` command: reads its arguments and hands over. Imports nothing heavy until it has to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from astune.command import exit_status, prepare_process

BACKBONES = ("local", "debug")
#: Known by name, so that they are refused with a reason and not as a misspelling.
ABSENT_BACKBONES = ("trinity", "verl", "ray", "trl")

_EPILOG = f"""\
commands:
  astuner --conf FILE [section.key=value ...]       train
  astuner config --conf FILE [section.key=value ...]  print the resolved configuration (or --schema)
  astuner eval --conf FILE --checkpoint PATH        score a checkpoint
  astuner refine --question TEXT [--strategy NAME]  answer a question in several rounds

backbones: local trains here. debug trains nothing: it runs a few episodes one after another in this process and
shows each, so that breakpoints in a workflow or a judge work. There are no others: {", ".join(ABSENT_BACKBONES)} and
--with-ray are refused. TRL's GRPOTrainer with our refine stage is used from Python: docs/trl.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 (failed), 2 (bad input), 130 (stopped by Ctrl-C)."""
    prepare_process()
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments and arguments[0] in _COMMANDS else "train"
    make_parser, run_command = _COMMANDS[command]
    options = make_parser().parse_intermixed_args(arguments)
    return exit_status(lambda: run_command(options), traceback=options.traceback)


# --- arguments --------------------------------------------------------------------------------------------------


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG if name == "astuner" else None,
    )
    parser.add_argument("--conf", type=Path, metavar="FILE", help="configuration file (YAML, root key astune)")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="overrides the file, e.g. trainer.steps=20"
    )
    return parser


def _train_parser() -> argparse.ArgumentParser:
    parser = _parser("astuner", "Trains a tool-using agent by reinforcement learning.")
    parser.add_argument("--backbone", default="local", metavar="NAME", help="local (default) or debug; see below")
    parser.add_argument("--with-ray", action="store_true", help="refused: no backbone here runs on Ray")
    parser.add_argument(
        "--with-logview",
        action="store_true",
        help="serve the run's report on this machine; at a terminal until Ctrl-C, otherwise as long as the run lasts",
    )
    parser.add_argument(
        "--kill",
        metavar="PATTERN",
        help="first end processes that dead astuner runs left behind and whose name matches, e.g. 'python|ray|vllm'",
    )
    return parser


def _config_parser() -> argparse.ArgumentParser:
    parser = _parser("astuner config", "Prints the configuration as resolved: file, overrides and defaults.")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the configuration instead")
    return parser


def _eval_parser() -> argparse.ArgumentParser:
    parser = _parser("astuner eval", "Scores a checkpoint on the held-out problems, or on a task file.")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="PATH", help="model or checkpoint folder")
    parser.add_argument("--tasks", type=Path, metavar="FILE", help="JSONL or Parquet file to score it on")
    return parser


def _refine_parser() -> argparse.ArgumentParser:
    from astune.refine.command import refine_parser

    return refine_parser()


# --- commands ---------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    if options.kill is not None:
        _end_leftovers(options.kill)
        if options.conf is None:
            return 0
    _check_backbone(options.backbone, options.with_ray)
    config_file = _required_conf(options)

    from astune.config import dump_yaml, load_config
    from astune.leftovers import mark_children

    config = load_config(config_file, options.overrides)
    mark_children()

    from astune.backbone import run_folder

    def train() -> int:
        from astune.backbone import run

        return run(config, options.backbone, config_text=dump_yaml(config))

    return _with_logview(run_folder(config, options.backbone), train) if options.with_logview else train()


def _config(options: argparse.Namespace) -> int:
    if options.schema:
        import json

        from astune.config.load import schema

        print(json.dumps(schema(), indent=2))
        return 0
    config_file = _required_conf(options)
    from astune.config import dump_yaml, load_config

    print(dump_yaml(load_config(config_file, options.overrides)), end="")
    return 0


def _eval(options: argparse.Namespace) -> int:
    from astune.config import load_config
    from astune.errors import CheckpointError, TaskError
    from astune.leftovers import mark_children

    config = load_config(_required_conf(options), options.overrides)
    if not options.checkpoint.exists():
        raise CheckpointError(f"{options.checkpoint}: there is no such checkpoint; a run's are in {config.save_dir}")
    if options.tasks is not None and not options.tasks.is_file():
        raise TaskError(f"{options.tasks}: there is no such task file; give a JSONL or Parquet file")
    mark_children()
    from astune.backbone import evaluate

    return evaluate(config, options.checkpoint, options.tasks)


def _refine(options: argparse.Namespace) -> int:
    from astune.refine.command import run_refine

    return run_refine(options)


def _required_conf(options: argparse.Namespace) -> Path:
    from astune.errors import ConfigError

    if options.conf is None:
        example = "tutorial/example_math_agent/math_agent.yaml"
        raise ConfigError(f"--conf FILE is missing; for example: --conf {example}")
    path: Path = options.conf
    return path


def _check_backbone(name: str, with_ray: bool) -> None:
    from astune.errors import ConfigError

    if name in ABSENT_BACKBONES:
        other = "; for TRL's own trainer see docs/trl.md" if name == "trl" else ""
        raise ConfigError(f"there is no backbone '{name}' in this version: use --backbone local or debug{other}")
    if name not in BACKBONES:
        import difflib

        near = difflib.get_close_matches(name, BACKBONES + ABSENT_BACKBONES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the backbones are {' and '.join(BACKBONES)}"
        raise ConfigError(f"unknown backbone '{name}'; {hint}")
    if with_ray:
        raise ConfigError(f"--with-ray: nothing in this version runs on Ray; --backbone {name} runs without it")


def _end_leftovers(pattern: str) -> None:
    from astune.leftovers import end_leftovers

    ended = end_leftovers(pattern)
    for process in ended:
        print(f"ended {process.pid} {process.name}, left by astuner {process.owner}")
    if not ended:
        print(f"nothing to end: no process of an earlier run matches '{pattern}'")


def _with_logview(run_folder: Path, train: Callable[[], int]) -> int:
    """Serves the report while training; for someone at a terminal, until Ctrl-C.

    Without a terminal nobody could end the wait, so the page ends with the run and says where its file is.
    """
    from astune.report.serve import serve_report

    at_terminal = sys.stdin.isatty()
    with serve_report(run_folder) as url:
        print(f"log view: {url}{'' if at_terminal else ' (until the run ends)'}", flush=True)
        status = train()
        if at_terminal:
            _wait_for_ctrl_c(url)
    if not at_terminal:
        report = run_folder / "report.html"
        print(f"The log view ended with the run{f'; open {report}' if report.is_file() else ''}.")
    return status


def _wait_for_ctrl_c(url: str) -> None:
    from threading import Event

    print(f"The run has ended; {url} stays up until Ctrl-C.")
    try:
        Event().wait()
    except KeyboardInterrupt:
        print()


_COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int]]] = {
    "train": (_train_parser, _train),
    "config": (_config_parser, _config),
    "eval": (_eval_parser, _eval),
    "refine": (_refine_parser, _refine),
}

if __name__ == "__main__":
    sys.exit(main())
