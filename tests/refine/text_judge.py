"""A judge that tells answers apart by their text alone, so that a model of any skill has something to learn."""

from __future__ import annotations

import hashlib
from typing import Any


class TextAsJudge:
    """Pays a share of 1 that the answer's text decides; half of all texts are a success."""

    def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> tuple[float, bool]:
        text = str(judge_input_dictionary.get("final_answer"))
        reward = hashlib.sha256(text.encode()).digest()[0] / 255
        return reward, reward > 0.5
