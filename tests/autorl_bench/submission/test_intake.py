"""Copying into the vault: bounded, whole, and out of the agent's reach."""

import hashlib
import os
import resource
import subprocess
import sys

import pytest

from astune.errors import CheckpointError, UserError
from autorl_bench.submission import Limits, intake, remove_unfinished
from autorl_bench.submission.intake import take_in
from autorl_bench.submission.reasons import SubmissionRefused
from autorl_bench.submission.vault import scratch_folder

LIMITS = Limits(entries=20, files=4, json_bytes=1000)


@pytest.fixture
def folder(tmp_path):
    model = tmp_path / "workspace" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"w" * 5000)
    return model


def _take(folder, total_bytes=100_000, limits=LIMITS):
    return take_in("model", folder.parent, folder.parents[1] / "vault", limits, total_bytes)


def _refused(folder, **options):
    with pytest.raises(SubmissionRefused) as refused:
        _take(folder, **options)
    assert list((folder.parents[1] / "vault").rglob("*.safetensors")) == [], "something stayed in the vault"
    return refused.value.code


def test_the_copy_has_the_content_and_is_read_only(folder):
    copied = _take(folder)
    assert (copied.folder / "model.safetensors").read_bytes() == b"w" * 5000
    assert (copied.folder / "model.safetensors").stat().st_mode & 0o222 == 0


def test_the_name_in_the_vault_is_a_function_of_the_content(folder):
    first = _take(folder)
    again = _take(folder)
    (folder / "model.safetensors").write_bytes(b"v" * 5000)
    other = _take(folder)
    assert first == again and first.sha256 != other.sha256 and first.folder != other.folder


def test_names_are_part_of_the_content(folder):
    first = _take(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert _take(folder).sha256 != first.sha256


def test_writing_to_the_submission_later_does_not_change_the_copy(folder):
    with (folder / "model.safetensors").open("r+b") as kept_open:
        copied = _take(folder)
        kept_open.write(b"daemon")
        kept_open.flush()
    assert (copied.folder / "model.safetensors").read_bytes() == b"w" * 5000


def test_files_that_the_base_provides_are_left_out_and_named(folder):
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "training_args.bin", "README.md"):
        (folder / name).write_text("x")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "evil.py").write_text("x")
    copied = _take(folder)
    assert {file.name for file in copied.files} == {"config.json", "model.safetensors"}
    assert set(copied.ignored) == {
        *("tokenizer.json", "chat_template.jinja", "generation_config.json", "training_args.bin", "README.md"),
        "checkpoint-5/",
    }


def test_a_sparse_file_of_100_gb_is_refused_before_it_is_read(folder):
    os.truncate(folder / "model.safetensors", 100 * 2**30)
    assert _refused(folder) == "too_large"


def test_many_small_files_count_together(folder):
    (folder / "more.safetensors").write_bytes(b"w" * 5000)
    assert _refused(folder, total_bytes=9000) == "too_large"


def test_too_many_entries_are_refused(folder):
    for n in range(30):
        (folder / f"{n}.txt").touch()
    assert _refused(folder) == "too_many_files"


def test_too_many_model_files_are_refused(folder):
    for n in range(5):
        (folder / f"{n}.safetensors").touch()
    assert _refused(folder) == "too_many_files"


def test_a_large_json_file_is_refused(folder):
    (folder / "config.json").write_text(" " * 2000)
    assert _refused(folder) == "too_large"


@pytest.mark.parametrize("name", [b"bad\xff.safetensors", b"new\nline.safetensors", b"sp ace.safetensors"])
def test_weights_with_strange_names_are_refused(folder, name):
    (folder / os.fsdecode(name)).touch()
    assert _refused(folder) == "bad_path"


def test_strange_names_of_ignored_files_become_text(folder):
    (folder / os.fsdecode(b"bad\xff.txt")).touch()
    (name,) = _take(folder).ignored
    assert name.encode().decode().isprintable()


def _meanwhile(monkeypatch, do):
    """Runs ``do`` once, after the first piece of the weights was read."""
    read, done = os.read, []

    def spied(descriptor, size):
        piece = read(descriptor, size)
        if piece.startswith(b"w") and not done:
            done.append(True)
            do()
        return piece

    monkeypatch.setattr(intake.os, "read", spied)


def test_a_file_replaced_while_it_is_copied_is_noticed(folder, monkeypatch):
    def swap():
        (folder / "new").write_bytes(b"x" * 5000)
        (folder / "new").replace(folder / "model.safetensors")

    _meanwhile(monkeypatch, swap)
    assert _refused(folder) == "changed_while_copied"


def test_a_file_that_grows_while_it_is_copied_is_noticed(folder, monkeypatch):
    def grow():
        with (folder / "model.safetensors").open("ab") as file:
            file.write(b"more")

    _meanwhile(monkeypatch, grow)
    assert _refused(folder) == "changed_while_copied"


def test_a_file_that_shrinks_while_it_is_copied_is_noticed(folder, monkeypatch):
    _meanwhile(monkeypatch, lambda: os.truncate(folder / "model.safetensors", 10))
    monkeypatch.setattr(intake, "_CHUNK", 100)
    assert _refused(folder) == "changed_while_copied"


def test_a_file_that_was_copied_and_then_replaced_is_noticed(folder, monkeypatch):
    _meanwhile(monkeypatch, lambda: (folder / "config.json").write_text("{ }"))
    assert _refused(folder) == "changed_while_copied"


def test_a_file_that_vanishes_is_noticed(folder, monkeypatch):
    _meanwhile(monkeypatch, lambda: (folder / "config.json").unlink())
    assert _refused(folder) == "changed_while_copied"


def test_a_daemon_that_never_stops_writing_changes_nothing_that_was_accepted(folder):
    code = """
import itertools
for n in itertools.count():
    with open("model/model.safetensors", "r+b") as file:
        file.write(b"wv"[n % 2 : n % 2 + 1] * 5000)
    if n == 10: print("going", flush=True)
"""
    daemon = subprocess.Popen([sys.executable, "-c", code], cwd=folder.parent, stdout=subprocess.PIPE)
    accepted, refusals = [], set()
    try:
        daemon.stdout.readline()
        for _ in range(50):
            try:
                accepted.append(_take(folder))
            except SubmissionRefused as refused:
                refusals.add(refused.code)
    finally:
        daemon.kill()
        daemon.communicate()
    assert refusals <= {"changed_while_copied"}
    for copied in (*accepted, _take(folder)):
        for file in copied.files:
            assert hashlib.sha256((copied.folder / file.name).read_bytes()).hexdigest() == file.sha256


def test_a_vault_inside_the_workspace_is_refused(folder):
    with pytest.raises(UserError, match="inside the workspace"):
        take_in("model", folder.parent, folder.parent / "vault", LIMITS, 100_000)


def test_a_vault_that_cannot_be_written_is_a_failure_of_ours(folder):
    (folder.parents[1] / "vault").write_text("a file")
    with pytest.raises(CheckpointError, match="vault"):
        _take(folder)


def test_a_disk_that_fills_up_is_a_failure_of_ours_and_nothing_is_published(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CheckpointError, match="no space"):
            _take(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (folder.parents[1] / "vault").iterdir()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_the_grader_may_not_read_is_refused(folder):
    (folder / "model.safetensors").chmod(0)
    assert _refused(folder) == "unreadable"


def test_what_a_dead_process_left_is_removed_and_all_else_stays(folder):
    copied = _take(folder)
    vault = folder.parents[1] / "vault"
    if (pid := os.fork()) == 0:
        with scratch_folder(vault) as scratch:
            (scratch / "part").touch()
            os._exit(0)
    os.waitpid(pid, 0)
    with scratch_folder(vault) as ours:
        assert len([*vault.glob("incoming-*")]) == 2
        assert remove_unfinished(vault) == 1
        assert [*vault.glob("incoming-*")] == [ours]
    assert copied.folder.is_dir()
