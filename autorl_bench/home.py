"""Where things lie: the benchmark's folder, what of it an agent may see, and what is the grader's alone."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from astune.files import atomic_write, storage_errors
from autorl_bench.scenarios.sources import Roots

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Home:
    """The benchmark's folder. ``assets/`` is public, ``workspace/{run}`` an agent's own, ``vault/`` the grader's."""

    root: Path

    @property
    def vault(self) -> Path:
        """Hidden files, submissions, evaluation logs, and the store where it is a file."""
        return self.root / "vault"

    @property
    def store(self) -> Path:
        """The store, unless another is named by URL."""
        return self.vault / "store.db"

    @property
    def roots(self) -> Roots:
        """The two folders that scenarios know."""
        return Roots(public=self.root, vault=self.vault)

    def workspace(self, run_id: str) -> Path:
        """A run's own folder, the working directory of its agent."""
        return self.root / "workspace" / run_id

    def log(self, run_id: str) -> Path:
        """What a run's jobs printed."""
        return self.root / "log" / run_id

    def evaluations(self, run_id: str) -> Path:
        """Inspect's logs of a run's evaluations; they hold hidden items."""
        return self.vault / "logs" / run_id

    def feedback(self, run_id: str) -> Path:
        """The result file of a run."""
        return self.root / "results" / run_id / "feedback.json"

    def make(self) -> None:
        """Makes the folders; the vault is closed to other users.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        with storage_errors(self.root):
            for name in ("assets", "workspace", "log", "results"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self.vault.mkdir(mode=0o700, exist_ok=True)
            self.vault.chmod(0o700)

    def test_seed(self, scenario: str, draw: str, seed: int) -> int:
        """The seed of a run's hidden items: known to whoever reads the vault's key, and to nobody else.

        Runs of equal draw and seed get equal items, so that they can be compared item by item.
        """
        message = "\n".join((scenario, draw, str(seed))).encode()
        return int.from_bytes(hmac.digest(self.key().encode(), message, hashlib.sha256)[:16], "big")

    def key(self) -> str:
        """The vault's key, random hexadecimal digits; made once, and several processes may ask for it first.

        A workspace in which it stands was written by somebody who read the vault.
        """
        path = self.vault / "secret.key"
        if not path.exists():
            mine = path.with_name(f"secret-{os.getpid()}-{secrets.token_hex(4)}")
            atomic_write(mine, f"{secrets.token_hex(_KEY_BYTES)}\n")
            mine.chmod(0o600)
            try:
                os.link(mine, path)  # fails where another was first: a key is never replaced
            except FileExistsError:
                pass
            finally:
                mine.unlink()
        return path.read_text().strip()
