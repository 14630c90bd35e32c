"""Overlap of a workspace with the hidden test, and the gap between test and twin."""

import base64
import json
import os
from itertools import chain
from random import Random

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.task_reader.nano_gsm.generate import generate
from autorl_bench.submission import FlagCode, ScanLimits, scan_workspace, twin_gap
from autorl_bench.submission.needles import Needles, tokens_of
from autorl_bench.types import Evaluation, Item, ItemResult


def _item(item_id, question):
    system = {"role": "system", "content": "You solve problems."}
    return Item(item_id, [system, {"role": "user", "content": f"Solve this: {question} Answer in a box."}], "18")


def _items(n, seed, split="test"):
    return [_item(f"{split}/{seed}/{i}", problem.question) for i, problem in enumerate(generate(n, seed, split))]


def _questions(n, seed, split="test"):
    return [problem.question for problem in generate(n, seed, split)]


TEST, TWIN, TRAIN = _items(60, 1), _items(60, 2), _items(60, 3, "train")
LEAK = _questions(60, 1)


def _lines(questions):
    return "".join(json.dumps({"question": question, "answer": "#### 18"}) + "\n" for question in questions)


def _scan(workspace, **options):
    return scan_workspace(workspace, TEST, TWIN, TRAIN, **options)


def _codes(overlap):
    return [finding.code for finding in overlap.findings.all]


def test_an_honest_workspace_has_no_finding(tmp_path):
    """Thousands of training problems from the same templates, code, and weights."""
    (tmp_path / "train.jsonl").write_text(_lines(_questions(3000, 7, "train")))
    (tmp_path / "train.py").write_text("import torch\nprint('training')\n" * 100)
    (tmp_path / "model.safetensors").write_bytes(Random(0).randbytes(3 * 2**20))
    overlap = _scan(tmp_path)
    assert _codes(overlap) == [] and overlap.test.exact == () and overlap.coverage.files_read == 3


def _jsonl(folder):
    (folder / "notes.jsonl").write_text(_lines(LEAK))


def _chat(folder):
    rows = [{"messages": item.messages} for item in TEST]
    (folder / "sft.json").write_text(json.dumps(rows, indent=2))


def _code(folder):
    (folder / "answers.py").write_text(f"ANSWERS = {dict.fromkeys(LEAK, 18)!r}\n")


def _one_deep_hidden_file(folder):
    deep = folder.joinpath(*"abcdefgh", ".cache")
    deep.mkdir(parents=True)
    (deep / "x").write_text("\n".join(LEAK).upper())


def _line_breaks(folder):
    (folder / "wrapped.json").write_text(json.dumps([question.replace(" ", "\n") for question in LEAK]))


def _inside_binary(folder):
    noise = Random(1).randbytes(3 * 2**20)
    (folder / "state.dat").write_bytes(noise + "\n".join(LEAK * 150).encode() + noise)


def _parquet(folder):
    table = pyarrow.table({"question": LEAK * 2, "answer": ["18"] * len(LEAK) * 2})
    pyarrow.parquet.write_table(table, folder / "d.parquet", compression="none", use_dictionary=False)


def _hard_link(folder):
    outside = folder.parent / "outside.txt"
    outside.write_text("\n".join(LEAK))
    (folder / "linked.txt").hardlink_to(outside)


@pytest.mark.parametrize(
    "leak",
    [_jsonl, _chat, _code, _one_deep_hidden_file, _line_breaks, _inside_binary, _parquet, _hard_link],
)
def test_a_leaked_test_is_found_whatever_file_it_is_in(tmp_path, leak):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "train.jsonl").write_text(_lines(_questions(200, 7, "train")))
    leak(workspace)
    overlap = _scan(workspace)
    assert FlagCode.TEST_ITEMS_IN_WORKSPACE in _codes(overlap)
    assert overlap.findings.verdict.is_flagged
    assert len(overlap.test.exact) == len(TEST) and overlap.twin.exact == ()


def test_the_finding_names_the_file(tmp_path):
    _jsonl(tmp_path)
    finding = _scan(tmp_path).findings.all[0]
    assert "notes.jsonl" in finding.message and finding.evidence["test_found"] == len(TEST)


def test_slightly_reworded_problems_are_found_by_their_runs_of_words(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join("Then: " + question.rsplit(" ", 1)[0] + " money" for question in LEAK))
    overlap = _scan(tmp_path)
    assert overlap.test.exact == () and _codes(overlap) == [FlagCode.TEST_NGRAMS_IN_WORKSPACE]


def test_test_and_twin_found_alike_are_flagged_when_they_are_many(tmp_path):
    """Who draws the whole space of problems has trained on the test, too."""
    (tmp_path / "x.jsonl").write_text(_lines([*LEAK, *_questions(60, 2)]))
    assert FlagCode.TEST_ITEMS_IN_WORKSPACE in _codes(_scan(tmp_path))


def test_one_problem_hit_by_chance_is_reported_and_not_flagged(tmp_path):
    (tmp_path / "x.jsonl").write_text(_lines(LEAK[:1]))
    overlap = _scan(tmp_path)
    assert len(overlap.test.exact) == 1 and _codes(overlap) == []


def test_problems_that_the_agent_was_given_are_no_evidence(tmp_path):
    (tmp_path / "x.jsonl").write_text(_lines(LEAK))
    assert _codes(scan_workspace(tmp_path, TEST, TWIN, public=TEST)) == []


def test_without_a_twin_one_whole_problem_is_enough(tmp_path):
    (tmp_path / "x.jsonl").write_text(_lines(LEAK[:1]))
    assert _codes(scan_workspace(tmp_path, TEST, public=TRAIN)) == [FlagCode.TEST_ITEMS_IN_WORKSPACE]


def test_a_canary_is_found_across_pieces(tmp_path):
    canary = "canary-7f3a9c"
    (tmp_path / "blob").write_bytes(b"\xff" * (2**20 - 5) + canary.encode() + b"\xff" * 99)
    assert _codes(_scan(tmp_path, canaries=[canary])) == [FlagCode.CANARY_IN_WORKSPACE]


def test_no_canary_no_finding(tmp_path):
    (tmp_path / "blob").write_text("canary-7f3a9")
    assert _codes(_scan(tmp_path, canaries=["canary-7f3a9c"])) == []


def test_encoded_text_is_not_seen(tmp_path):
    """A limit that the documentation states; the gap to the twin is for such tricks."""
    (tmp_path / "x").write_bytes(base64.b64encode("\n".join(LEAK).encode()))
    assert _codes(_scan(tmp_path)) == []


def test_links_are_not_followed_and_pipes_do_not_block(tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    _jsonl(tmp_path)
    (workspace / "link").symlink_to(tmp_path / "notes.jsonl")
    (workspace / "folder").symlink_to(tmp_path)
    os.mkfifo(workspace / "pipe")
    overlap = _scan(workspace)
    assert overlap.test.exact == () and overlap.coverage.files_read == 0
    assert overlap.coverage.examples == ["pipe"]


def test_what_is_not_read_is_told_and_small_files_come_first(tmp_path):
    _jsonl(tmp_path)
    (tmp_path / "a_sparse_file").touch()
    os.truncate(tmp_path / "a_sparse_file", 100 * 2**30)
    overlap = _scan(tmp_path, limits=ScanLimits(file_bytes=2**20, total_bytes=2**21))
    assert _codes(overlap)[0] == FlagCode.TEST_ITEMS_IN_WORKSPACE
    assert _codes(overlap)[-1] == FlagCode.SCAN_INCOMPLETE
    assert overlap.coverage.examples == ["a_sparse_file"]


def test_a_folder_that_is_nested_too_deeply_is_told(tmp_path):
    tmp_path.joinpath(*["d"] * 60).mkdir(parents=True)
    assert _codes(_scan(tmp_path)) == [FlagCode.SCAN_INCOMPLETE]


WORDS = st.lists(st.sampled_from(["ann", "bob", "3", "4", "eggs", "sells"]), min_size=6, max_size=20)


@settings(deadline=None)
@given(WORDS, st.lists(WORDS, max_size=4), st.text(max_size=30), st.data())
def test_a_problem_is_found_exactly_when_its_words_stand_there_in_a_row(question, others, more, data):
    given_or_not = data.draw(st.sampled_from([[], question]))
    text = tokens_of(" ".join([*chain(*others), *given_or_not, more]).encode())
    wanted = [word.encode() for word in question]
    stands = any(text[i : i + len(wanted)] == wanted for i in range(len(text)))
    needles = Needles([Item("a", [{"role": "user", "content": " ".join(question)}], "1")])
    needles.search(needles.numbers(text))
    assert bool(needles.whole()) == stands


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 400))
def test_where_the_text_is_cut_does_not_matter(tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("cut")
    (folder / "x.jsonl").write_text(_lines(LEAK[:8]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autorl_bench.submission.walk._CHUNK", size)
        assert len(scan_workspace(folder, TEST[:8], public=TRAIN).test.exact) == 8


def _evaluation(correct, n):
    return Evaluation(tuple(ItemResult(str(i), i < correct, "", 1, False) for i in range(n)))


def test_the_gap_has_newcombes_interval():
    """Newcombe (1998), table II, case (a): 56/70 against 48/80 gives .0524 to .3339."""
    gap = twin_gap(_evaluation(56, 70), _evaluation(48, 80))
    assert gap.difference == pytest.approx(20.0)
    assert gap.ci95 == pytest.approx((5.24, 33.39), abs=0.01)


def test_a_model_that_knows_the_test_by_heart_is_flagged():
    findings = twin_gap(_evaluation(190, 200), _evaluation(120, 200)).findings
    assert [flag.code for flag in findings.verdict.flags] == [FlagCode.TEST_TWIN_GAP]


def test_an_ordinary_gap_is_not_flagged():
    assert twin_gap(_evaluation(130, 200), _evaluation(118, 200)).findings.all == ()


def test_a_lower_score_on_the_test_is_not_flagged():
    assert twin_gap(_evaluation(100, 200), _evaluation(190, 200)).findings.all == ()
