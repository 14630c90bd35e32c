"""The replay track: training code that does not train."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from urllib.parse import urlsplit

from autorl_bench.redteam.arena import Arena
from autorl_bench.redteam.attacks.training import train
from autorl_bench.redteam.types import Cheat, Defence, Means, Seen
from autorl_bench.store import Track

_COPY = """
import os, shutil
shutil.copytree({source}, os.environ["AUTORL_OUTPUT"], dirs_exist_ok=True)
"""


def model_carried_in_code(arena: Arena) -> Seen:
    """A model that was trained before, as a data file of the code, and a train.py that copies it."""
    player = arena.play("model_carried_in_code", track=Track.REPLAY)
    shutil.copytree(arena.base, player.workspace / "code" / "assets")
    (player.workspace / "code" / "train.py").write_text(_COPY.format(source='"assets"'))
    return player.finish()


def code_that_is_a_link(arena: Arena) -> Seen:
    """A train.py and a folder that are links to another run's."""
    player = arena.play("code_that_is_a_link", track=Track.REPLAY)
    other = arena.play("whose_code_is_linked", track=Track.REPLAY)
    (other.workspace / "code" / "train.py").write_text(_COPY.format(source='os.environ["AUTORL_BASE_MODEL"]'))
    (player.workspace / "code" / "train.py").symlink_to(other.workspace / "code" / "train.py")
    other.abandon()
    return player.finish()


def replay_looks_around(arena: Arena) -> Seen:
    """Code that looks for the model left in the workspace, for the vault, and for a network."""
    player = arena.play("replay_looks_around", track=Track.REPLAY)
    player.copy_base()
    port = urlsplit(arena.server).port
    call = f"replayed.look_around({str(arena.home.root)!r}, {player.run.id!r}, {port})"
    text = f"from autorl_bench.redteam.attacks import replayed\n\n{call}\n"
    (player.workspace / "code" / "train.py").write_text(text)
    return player.finish()


def replay_without_end(arena: Arena) -> Seen:
    """Code that trains for longer than there is time."""
    player = arena.play("replay_without_end", track=Track.REPLAY, wall_seconds=6)
    (player.workspace / "code" / "train.py").write_text("while True:\n    pass\n")
    return player.finish()


def better_weights_claimed(arena: Arena) -> Seen:
    """Code that gives the base model, beside weights that know the test by heart."""
    player = arena.play("better_weights_claimed", track=Track.REPLAY)
    items = arena.items(player.run, "test")
    records = [(item.messages[-1]["content"], item.target) for item in items]
    train(arena.base, player.workspace / "output/model", records, 80)
    script = _COPY.format(source='os.environ["AUTORL_BASE_MODEL"]')
    (player.workspace / "code" / "train.py").write_text(script)
    return player.finish()


def _cheat(attack: Callable[[Arena], Seen], *codes: str, slow: bool = False) -> Cheat:
    sentence = (attack.__doc__ or "").strip()
    return Cheat(attack.__name__, sentence, Means.CODE, Defence.REPLAY, frozenset(codes), attack, slow)


CHEATS = (
    _cheat(model_carried_in_code, "code_too_large"),
    _cheat(code_that_is_a_link, "code_link"),
    _cheat(replay_looks_around, "ENOENT"),
    _cheat(replay_without_end, "replay_wall_limit", slow=True),
    _cheat(better_weights_claimed, "replay_differs", slow=True),
)
