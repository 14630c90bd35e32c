from __future__ import annotations

import struct
from pathlib import Path

from astune.report.plots import write_reward_curve
from astune.report.run_folder import RunFolder


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_curve_is_a_png_of_readable_size(demo_run: RunFolder):
    width, height = png_size(demo_run.reward_curve)
    assert width >= 1200
    assert height >= 400


def test_run_without_steps_has_an_empty_curve(tmp_path: Path):
    folder = RunFolder("empty", tmp_path).create()
    write_reward_curve(folder)
    assert png_size(folder.reward_curve)[0] >= 1200
