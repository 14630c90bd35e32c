"""The journal is the agent's whole state, and survives a kill at any line."""

from agents.rdagent.records import Journal, Outcome, Proposal


def some(number: int) -> Proposal:
    return Proposal(f"hypothesis {number}", "why", {"values": {"learning_rate": 1e-4}}, [{"method": "rl", "steps": 4}])


def test_a_journal_that_is_read_again_is_the_same(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    assert not journal.started
    first, second = journal.propose(1, [some(1), some(2)])
    assert journal.begin(first)
    journal.end(first, Outcome(0.5, "well", "models/1", [{"method": "rl", "steps": 4}], [0.3, 0.5], 6.0, 1.1))
    journal.scored(first, 61.0)
    journal.reflect(1, {"phase": "train", "trials": [1]})
    [third] = journal.propose(2, [some(3)])
    again = Journal(tmp_path / "journal.jsonl")
    assert again.started
    assert again.trials == journal.trials
    assert [trial.number for trial in again.trials] == [1, 2, 3]
    assert again.proposals(1) == [first, second]
    assert again.proposals(2) == [third]
    assert again.reflections == {1: {"phase": "train", "trials": [1]}}
    assert again.trials[0].outcome is not None
    assert again.trials[0].outcome.dev == 61.0


def test_a_line_that_a_kill_cut_off_is_forgotten(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    [trial] = journal.propose(1, [some(1)])
    journal.end(trial, Outcome(0.5, "well"))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    again = Journal(path)
    assert again.trials[0].outcome is None
    again.end(again.trials[0], Outcome(0.4, "again"))
    assert Journal(path).trials[0].score == 0.4


def test_an_experiment_that_ended_the_agent_twice_does_not_begin_again(tmp_path):
    for _ in range(2):
        journal = Journal(tmp_path / "journal.jsonl")
        trial = journal.trials[0] if journal.trials else journal.propose(1, [some(1)])[0]
        assert journal.begin(trial)
    assert not Journal(tmp_path / "journal.jsonl").begin(trial)
