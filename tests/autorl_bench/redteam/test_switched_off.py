"""With its defence taken away a cheat survives: the suite can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autorl_bench import server
from autorl_bench.grader import duties
from autorl_bench.jobs import LocalJobRunner
from autorl_bench.redteam.arena import Arena
from autorl_bench.redteam.registry import cheats
from autorl_bench.redteam.types import judge
from autorl_bench.store import submissions
from autorl_bench.store.runs import Runs
from autorl_bench.store.tokens import run_of
from autorl_bench.submission import intake, provenance
from autorl_bench.submission.contamination import TwinGap
from autorl_bench.submission.findings import Findings
from autorl_bench.types import Evaluation
from autorl_bench.web import files

Undefended = Callable[..., Arena]


def _problems(name: str, arena: Arena) -> str:
    cheat = cheats()[name]
    return "; ".join(judge(cheat, cheat.attack(arena)).problems)


def test_without_a_private_root_the_vault_is_read(undefended: Undefended) -> None:
    assert "secret.key by its path" in _problems("vault_by_path", undefended(LocalJobRunner(at_most="process")))


def test_without_a_private_root_the_store_is_opened(undefended: Undefended) -> None:
    assert "the store opened" in _problems("edit_the_store", undefended(LocalJobRunner(at_most="process")))


def test_without_a_private_root_results_are_planted(undefended: Undefended) -> None:
    assert "results/" in _problems("plant_results", undefended(LocalJobRunner(at_most="process")))


def test_without_a_private_network_other_services_are_reached(undefended: Undefended) -> None:
    problems = _problems("services_of_the_machine", undefended(LocalJobRunner(at_most="process")))
    assert "the service at 127.0.0.1" in problems


def test_with_pages_at_the_agents_door_others_ideas_are_read(undefended: Undefended) -> None:
    assert "bytes of board-runs" in _problems("pages_of_others", undefended())


def test_without_the_hash_of_the_token_another_run_is_seen(
    undefended: Undefended, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_name(self: Runs, token: str) -> Any:
        run_id = run_of(token)
        return None if run_id is None else self.get(run_id)

    monkeypatch.setattr(Runs, "authenticate", by_name)
    assert "GET /runs/" in _problems("forged_token", undefended())


def test_without_a_count_dev_is_asked_for_ever(undefended: Undefended, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = submissions.Submissions.ask_dev

    def unlimited(self: submissions.Submissions, run_id: str, **given: Any) -> Any:
        return ask(self, run_id, **given | {"limit": 1000})

    monkeypatch.setattr(submissions.Submissions, "ask_dev", unlimited)
    monkeypatch.setattr(submissions.Submissions, "dev_queries_spent", lambda self, run_id: 0)
    assert "questions of 2" in _problems("more_dev_queries", undefended())


def test_without_a_bound_a_huge_body_is_read(undefended: Undefended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_BODY", 2**40)
    assert "nothing named it as too_large" in _problems("huge_body", undefended())


def test_without_provenance_another_model_passes(undefended: Undefended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.Provenance, "findings", Findings())
    assert "nothing named it as sibling_model" in _problems("mixed_with_sibling", undefended())


def test_without_the_intakes_look_at_links_a_second_name_passes(
    undefended: Undefended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "check_regular", lambda status, name: None)
    monkeypatch.setattr("autorl_bench.submission.paths.check_regular", lambda status, name: None)
    assert "nothing named it as link" in _problems("hardlink_to_base", undefended())


def test_without_a_comparison_of_files_an_answer_table_goes_unnoticed(
    undefended: Undefended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "replaced_files", lambda folder, names, base: ())
    assert "nothing named it as replaced_files" in _problems("answer_table", undefended())


def test_a_path_that_may_go_up_shows_the_vaults_key(undefended: Undefended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "parts_inside", lambda path, workspace: tuple(part for part in path.split("/") if part))
    assert "the vault's key" in _problems("files_of_others_shown", undefended())


@pytest.mark.slow
def test_without_the_twin_a_test_known_by_heart_is_the_best_score(
    undefended: Undefended, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gap(test: Evaluation, twin: Evaluation) -> TwinGap:
        return TwinGap(0.0, (0.0, 0.0), 0.0)

    monkeypatch.setattr(duties, "twin_gap", no_gap)
    assert "no flag binds" in _problems("train_on_the_test_and_hide_it", undefended())
