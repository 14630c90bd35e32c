"""Downloads a data set of the Hugging Face hub into a folder that task reader ``huggingface_dat_repo`` reads.

Usage: ``python scripts/download_dataset.py --target=openai/gsm8k --path=/the/path/to/store/dataset``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from astune.errors import UserError
from astune.task_reader.hub import download


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 with a message where it could not."""
    parser = argparse.ArgumentParser(description="Download a data set of the Hugging Face hub: a Parquet file a split.")
    parser.add_argument("--target", required=True, metavar="OWNER/NAME", help="data set, such as openai/gsm8k")
    parser.add_argument("--path", required=True, type=Path, metavar="DIR", help="folder to write to; made if absent")
    parser.add_argument("--subset", default="main", help="subset (configuration); '' where it has none (default: main)")
    options = parser.parse_args(arguments)
    try:
        files = download(options.target, options.path, options.subset or None)
    except UserError as error:
        print(f"download_dataset: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(file)
    print(f"Read it with astune.task_reader.huggingface_dat_repo.path={options.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
