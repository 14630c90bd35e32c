from __future__ import annotations

import sys
from pathlib import Path

import pytest

from astune.errors import ConfigError
from astune.report.tracking import TensorBoardTracker


def test_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'astune\[track\]'"):
        TensorBoardTracker(tmp_path)


def test_scalars_can_be_read_by_tensorboard(tmp_path: Path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = TensorBoardTracker(tmp_path)
    for step in (1, 2):
        tracker.log(step, {"reward_mean": step / 4, "habit/no_print": 0.5})
    tracker.close()
    events = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward_mean")] == [(1, 0.25), (2, 0.5)]
