import json
from pathlib import Path

import pytest

from autorl_bench.scenarios import Roots

MINIMAL = """\
title: Small
base_model_path: assets/models/nano
train_data_path: assets/data/small/train.jsonl
baseline_score: 10.0
metric: accuracy
base_model: {bundled: nano}
source: {type: generator, generator: nano_gsm}
n: {train: 20, dev: 5, test: 10, twin: 10}
generation: {max_tokens: 16}
checker: math
budget: {wall_seconds: 60, cpu_seconds: 60, memory_gib: 1, disk_gib: 1, submissions: 1, dev_queries: 1}
seed: 7
"""


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "public", tmp_path / "vault")


@pytest.fixture
def scenario_file(tmp_path: Path):
    """Writes a scenario's YAML into a folder of its own; `change` replaces one piece of the minimal one."""

    def write(*changes: tuple[str, str], name: str = "small") -> Path:
        text = MINIMAL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "more" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.fixture
def questions(roots: Roots):
    """Fills the vault with a training and a test file of numbered questions, and returns their source section."""

    def write(n_train: int, n_test: int, shared: int = 0) -> str:
        folder = roots.vault / "small"
        folder.mkdir(parents=True)
        names = {"train": [*range(n_train), *range(1000, 1000 + shared)], "test": range(1000, 1000 + n_test)}
        for name, numbers in names.items():
            records = [{"question": f"What is {i} + 1?", "answer": f"Add one.\n#### {i + 1}"} for i in numbers]
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        train, test = ({"path": f"small/{name}.jsonl", "how": f"fetch {name}"} for name in ("train", "test"))
        return f"source: {json.dumps({'type': 'files', 'files': {'train': train, 'test': test}})}"

    return write
