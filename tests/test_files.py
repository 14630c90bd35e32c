from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from astune.errors import CheckpointError
from astune.files import atomic_path, atomic_write


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may write anywhere, so the test gives its rights up for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_write_replaces_the_content(tmp_path: Path):
    atomic_write(tmp_path / "a" / "file", "old")
    atomic_write(tmp_path / "a" / "file", "new")
    assert (tmp_path / "a" / "file").read_text() == "new"


def test_write_leaves_no_other_file(tmp_path: Path):
    atomic_write(tmp_path / "file", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    atomic_write(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as part:
        part.write_text("half")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_read_only_folder_is_named_with_a_remedy(tmp_path: Path, unprivileged: None):
    folder = Path("/") if os.geteuid() == 65534 else tmp_path
    if folder == tmp_path:
        folder.chmod(0o500)
    with pytest.raises(CheckpointError, match=r"cannot write .*file: the folder is read-only.*choose another"):
        atomic_write(folder / "astune-test-file", "x")


def test_full_disk_is_named_and_keeps_the_old_content(tmp_path: Path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from astune.errors import CheckpointError
        from astune.files import atomic_write
        target = Path(sys.argv[1]) / "file"
        atomic_write(target, b"old")
        try:
            atomic_write(target, bytes(1 << 20))
        except CheckpointError as error:
            print(error)
        print(target.read_bytes(), [path.name for path in target.parent.iterdir()])
    """)
    mount = 'mount -t tmpfs -o size=128k none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if subprocess.run(probe, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk of one's own")
    done = subprocess.run([*command, str(tmp_path), sys.executable, script], capture_output=True, text=True)
    assert "no space left there; free some" in done.stdout, done.stderr
    assert done.stdout.endswith("b'old' ['file']\n")


def test_killed_writer_leaves_one_whole_version(tmp_path: Path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from astune.files import atomic_write
        for index in range(10**9):
            atomic_write(Path(sys.argv[1]), str(index % 10) * 200_000)
    """)
    target = tmp_path / "file"
    for delay in (0.0, 0.013, 0.05):
        target.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", script, str(target)])
        while not target.exists():
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = target.read_text()
        assert content == content[0] * 200_000
