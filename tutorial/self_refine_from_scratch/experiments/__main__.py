"""Runs the experiments: ``python -m experiments [NAME ...]`` in the tutorial's folder."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

from experiments.table import Table

NAMES = ("masking", "step_size", "keep_best", "self_confirmation", "best_of_n", "memory", "training")
RESULTS = Path(__file__).parent.parent / "results.json"


def main() -> None:
    """Prints each experiment's tables; ``--write`` also keeps them in results.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description="The evidence behind README.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--write", action="store_true", help="run all of them and write results.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}")

    names = NAMES if arguments.write or not arguments.names else arguments.names
    found = [table for name in names for table in run(name)]
    as_json = json.dumps({table.name: table.columns_and_rows() for table in found}, indent=1, ensure_ascii=False)
    print(as_json if arguments.json else "\n\n".join(f"{table.name}\n\n{table.markdown()}" for table in found))
    if arguments.write:
        RESULTS.write_text(as_json + "\n", encoding="utf-8")


def run(name: str) -> list[Table]:
    """The tables of one experiment."""
    tables: list[Table] = import_module(f"experiments.{name}").tables()
    return tables


if __name__ == "__main__":
    main()
