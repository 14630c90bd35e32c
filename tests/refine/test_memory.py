"""Episodic memory: bounded, persistent, searched by recency and similarity, careful with foreign files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import ConfigError
from astune.refine.memory import EpisodicMemory, MemoryFileError

APPLES = "Tom has 3 apples and buys 4 apples. How many apples?"
TRAIN = "A train leaves at noon and drives 80 km an hour. How far is it at three?"


def texts(lessons):
    return [lesson.text for lesson in lessons]


@pytest.fixture
def memory():
    with EpisodicMemory(clock=count(1000).__next__) as memory:
        yield memory


def test_a_lesson_comes_back_as_it_was_given(memory):
    memory.add(APPLES, "8", "Add again.", 0.0)
    [lesson] = memory.recent(1)
    assert (lesson.question, lesson.attempt, lesson.text, lesson.score, lesson.created) == (
        APPLES, "8", "Add again.", 0.0, 1000.0,
    )  # fmt: skip


def test_recent_lessons_come_newest_first(memory):
    for word in ("one", "two", "three"):
        memory.add(APPLES, "", word)
    assert texts(memory.recent(2)) == ["three", "two"]


def test_similar_lessons_come_by_shared_words(memory):
    memory.add(APPLES, "", "about apples")
    memory.add(TRAIN, "", "about a train")
    assert texts(memory.similar("How far does the train drive?", 1)) == ["about a train"]


def test_of_equally_similar_lessons_the_newer_is_recalled_first(memory):
    memory.add(APPLES, "", "old")
    memory.add(APPLES, "", "new")
    assert texts(memory.recall(APPLES, 2)) == ["new", "old"]


def test_recall_leaves_out_lessons_on_unlike_questions(memory):
    memory.add(APPLES, "", "about apples")
    memory.add(TRAIN, "", "about a train")
    assert texts(memory.recall("Ann has 9 apples and buys 2 apples. How many apples?", 5)) == ["about apples"]


@pytest.mark.parametrize("question", ["", "?!", 'a "quoted" AND NEAR(b) OR -c *', "苹果有几个"])
def test_any_text_can_be_searched_for(memory, question):
    memory.add(APPLES, "", "about apples")
    assert memory.recall(question, 3) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 12))
def test_it_never_holds_more_than_its_capacity_and_drops_the_oldest(capacity, added):
    with EpisodicMemory(capacity=capacity) as memory:
        for number in range(added):
            memory.add(APPLES, "", str(number))
        assert texts(memory.recent(99)) == [str(number) for number in range(added)][::-1][:capacity]


def test_a_dropped_lesson_is_not_found_again():
    with EpisodicMemory(capacity=1) as memory:
        memory.add(APPLES, "", "about apples")
        memory.add(TRAIN, "", "about a train")
        assert memory.similar("apples", 5) == []


def test_it_lasts_beyond_the_process_that_wrote_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from astune.refine.memory import EpisodicMemory\n"
        "EpisodicMemory(Path(sys.argv[1])).add('apples and pears', '5', 'kept')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "memory.sqlite")], check=True)
    with EpisodicMemory(tmp_path / "memory.sqlite") as memory:
        assert texts(memory.recall("pears and apples", 1)) == ["kept"]


def test_two_at_once_lose_no_lesson(tmp_path):
    path = tmp_path / "memory.sqlite"
    with EpisodicMemory(path) as one, EpisodicMemory(path) as other:
        for number in range(10):
            (one if number % 2 else other).add(APPLES, "", str(number))
        assert len(one) == len(other) == 10


def set_version(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def test_a_file_of_another_version_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "memory.sqlite"
    with EpisodicMemory(path) as memory:
        memory.add(APPLES, "", "kept")
    set_version(path, 7)
    before = path.read_bytes()
    with pytest.raises(MemoryFileError, match=r"memory.sqlite has version 7, this release reads version 1; it was not"):
        EpisodicMemory(path)
    assert path.read_bytes() == before


def test_a_database_of_someone_else_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(MemoryFileError, match="is a database, but no memory of lessons"):
        EpisodicMemory(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("Buy milk. " * 100)
    with pytest.raises(MemoryFileError, match=r"notes.txt is not a SQLite database"):
        EpisodicMemory(path)
    assert path.read_text() == "Buy milk. " * 100


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MemoryFileError, match="nowhere"):
        EpisodicMemory(tmp_path / "nowhere" / "memory.sqlite")


def test_a_capacity_below_one_is_refused():
    with pytest.raises(ConfigError, match="capacity is 0"):
        EpisodicMemory(capacity=0)
