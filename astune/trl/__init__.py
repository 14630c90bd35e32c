"""TRL's GRPOTrainer with the refine stage, for those who live in TRL: ``from astune.trl import GRPOTrainer``.

See docs/trl.md.
"""

from astune.trl.version import check_trl

check_trl()

from astune.trl.trainer import GRPOTrainer  # noqa: E402  # only a TRL that was checked is imported

__all__ = ["GRPOTrainer"]
