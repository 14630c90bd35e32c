"""Requests that no agent should make: other people's tokens, more than is allowed, more than a server can bear."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import httpx

from autorl_bench.bench import MAX_NOTES, MAX_REPORTS, SPARE_LOOKS
from autorl_bench.redteam.arena import Arena, Player, with_codes
from autorl_bench.redteam.types import Cheat, Defence, Means, Seen
from autorl_bench.server import MAX_AT_ONCE, MAX_BODY

_Ask = tuple[str, str, dict[str, Any] | None]


def _codes(player: Player, asks: Sequence[_Ask], token: str | None = None) -> tuple[list[str], list[str]]:
    """The codes of refusals and what was answered well, over plain HTTP."""
    codes, accepted = [], []
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with player.http as http:
        for method, path, body in asks:
            response = http.request(method, path, json=body, headers=headers)
            if response.is_success:
                accepted.append(f"{method} {path}")
            else:
                codes.append(_code(response))
    return codes, accepted


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"]["code"])
    except (ValueError, KeyError, TypeError):
        return str(response.status_code)


def _ended(player: Player, codes: Sequence[str] = (), loot: Sequence[str] = ()) -> Seen:
    player.abandon()
    return with_codes(player.seen(), codes, loot)


# --- the baseline ---------------------------------------------------------------------------------------------------


def set_the_baseline(arena: Arena) -> Seen:
    """A baseline of 0, by fields of requests, by changing the scenario over HTTP, by a scenario file, by a result."""
    player = arena.play("set_the_baseline")
    target = player.copy_base()
    run, scenario = f"/runs/{player.run.id}", f"/scenarios/{player.run.scenario}"
    low = {"model_path": "output/model", "baseline": -100.0, "baseline_score": -100.0, "score": 100.0}
    codes, accepted = _codes(
        player,
        [
            ("POST", "/evaluate", low),
            ("POST", f"{run}/evaluations", low),
            ("POST", f"{run}/submissions", low),
            ("POST", f"{run}/final", {"submission": 1, "baseline": -100.0}),
            ("PUT", scenario, {"baseline_score": -100.0}),
            ("PATCH", scenario, {"baseline_score": -100.0}),
            ("POST", "/scenarios", {"id": "redteam", "baseline_score": -100.0}),
            ("POST", f"{run}/baseline", {"baseline": -100.0}),
        ],
    )
    for place in (player.workspace / "scenarios", target):
        place.mkdir(exist_ok=True)
        (place / "redteam.yaml").write_text("baseline_score: -100.0\n")
        (place / "feedback.json").write_text(json.dumps({"baseline": -100.0, "score": 100.0}))
    seen = with_codes(player.finish(), codes, [f"a baseline by {what}" for what in accepted])
    written = json.loads(arena.home.feedback(player.run.id).read_text())
    planted = written["baseline"] < 0 or written["score"] > round(seen.score or 0.0, 2)
    return with_codes(seen, loot=["its own numbers in feedback.json"] if planted else [])


# --- tokens ---------------------------------------------------------------------------------------------------------


def forged_token(arena: Arena) -> Seen:
    """Tokens of another run that were guessed, built, cut, or left out."""
    player, victim = arena.play("forged_token"), arena.play("forged_token_victim")
    secret = player.token.partition(":")[2]
    forged = ["Bearer", f"{victim.run.id}:{secret}", f"{victim.run.id}:", victim.run.id, f"{victim.run.id}:{'A' * 43}"]
    forged += [f"{player.run.id}:{secret[:-1]}", "null", "x" * 10_000]
    codes: list[str] = []
    loot: list[str] = []
    for token in forged:
        refused, accepted = _codes(player, [("GET", f"/runs/{victim.run.id}", None)], token)
        codes += refused
        loot += [f"{what} with the token {token[:20]!r}" for what in accepted]
    victim.abandon()
    return _ended(player, codes, loot)


def token_of_another_run(arena: Arena) -> Seen:
    """One's own token for another run's address, its questions, its experiments and its final submission."""
    player, victim = arena.play("token_of_another_run"), arena.play("token_of_another_run_victim")
    victim.copy_base()
    asked = victim.client.ask("output/model")
    victim.client.submit("output/model")
    victim.client.begin(victim.client.propose("mine").number, {})
    run = f"/runs/{victim.run.id}"
    asks: list[_Ask] = [
        ("GET", run, None),
        ("GET", f"{run}/evaluations/{asked.id}", None),
        ("POST", f"{run}/submissions", {"model_path": "output/model"}),
        ("POST", f"{run}/final", {"submission": 1}),
        ("POST", f"{run}/experiments/1/end", {"state": "failed"}),
        ("POST", f"{run}/usage", {"agent_tokens": 2**40}),
        ("GET", f"/runs/{player.run.id}/evaluations/{asked.id}", None),
        ("POST", f"/runs/{player.run.id}/final", {"submission": 1}),
        ("POST", f"/runs/{player.run.id}/experiments/1/end", {"state": "failed"}),
    ]
    codes, accepted = _codes(player, asks)
    victim.abandon()
    return _ended(player, codes, accepted)


# --- counted things -------------------------------------------------------------------------------------------------


def _variants(player: Player, count: int) -> list[str]:
    """So many different models that could be evaluated."""
    from autorl_bench.redteam.weights import changed

    names = [f"output/variant-{number}" for number in range(count)]
    for number, name in enumerate(names, start=1):
        changed(player.arena.base, player.workspace / name, partial(_scaled, 1 + number / 100))
    return names


def _scaled(factor: float, name: str, value: Any) -> Any:
    return value * value.dtype.type(factor) if name.endswith("norm.weight") else value


def more_dev_queries(arena: Arena) -> Seen:
    """More questions on dev than the budget has, at once and from many processes, so that a count is raced."""
    allowed = 2
    player = arena.play("more_dev_queries", dev_queries=allowed)
    names = _variants(player, 6)
    with ThreadPoolExecutor(len(names)) as pool:
        codes = list(pool.map(lambda name: player.refusals(lambda: player.client.ask(name))[0], names))
    left_in_vault = len(list((arena.home.vault / "submitted").iterdir()))
    codes += player.refusals(*(partial(player.client.ask, name) for name in names))
    with arena.bench.store.read() as tx:
        asked = len(tx.submissions.dev_queries(player.run.id))
    loot = [f"{asked} questions of {allowed}"] if asked > allowed else []
    grown = len(list((arena.home.vault / "submitted").iterdir())) - left_in_vault
    return _ended(player, codes, loot + ([f"{grown} refused models kept in the vault"] if grown else []))


def more_submissions(arena: Arena) -> Seen:
    """More submissions than the budget has."""
    player = arena.play("more_submissions", submissions=1)
    names = _variants(player, 3)
    codes = player.refusals(*(partial(player.client.submit, name) for name in names))
    return _ended(player, codes, ["three submissions of one"] if codes.count("accepted") > 1 else [])


def test_opened_twice(arena: Arena) -> Seen:
    """Two submissions declared final, one after the other and at once, to keep the better."""
    player = arena.play("test_opened_twice")
    numbers = [player.client.submit(name).number for name in _variants(player, 2)]
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: player.refusals(lambda: player.client.declare_final(n))[0], numbers * 4))
    codes += player.refusals(*(partial(player.client.declare_final, number) for number in numbers))
    seen = with_codes(player.finish(), codes)
    return with_codes(seen, loot=["the test opened twice"] if codes.count("accepted") > 1 else [])


def after_the_final(arena: Arena) -> Seen:
    """Questions, submissions and notes after the test was opened."""
    player = arena.play("after_the_final")
    first, second = _variants(player, 2)
    player.client.declare_final(player.client.submit(first).number)
    client = player.client
    requests = [lambda: client.ask(second), lambda: client.submit(second), lambda: client.propose("one more")]
    codes = player.refusals(*requests)
    with player.http as http:
        codes += (_code(http.post("/evaluate", json={"model_path": second})),)
    return with_codes(player.finish(), codes, ["an answer after the final"] if "accepted" in codes else [])


def after_the_deadline(arena: Arena) -> Seen:
    """Questions, submissions and a final declared when the wall time is over, by an agent that nobody ended."""
    import time

    player = arena.play("after_the_deadline", wall_seconds=2)
    player.copy_base()
    early = player.client.submit("output/model").number
    (late,) = _variants(player, 1)
    time.sleep(2)
    client = player.client
    codes = player.refusals(lambda: client.ask(late), lambda: client.submit(late), lambda: client.declare_final(early))
    arena.bench.finish(player.run.id)  # as the operator does when the time is over; it makes the token worthless
    codes += player.refusals(lambda: client.status(), lambda: client.submit(late))
    return _ended(player, codes, ["a request taken after the deadline"] if "accepted" in codes else [])


def used_up_looks(arena: Arena) -> Seen:
    """Hundreds of folders that cannot be evaluated, until the benchmark looks at none, not even the final one."""
    player = arena.play("used_up_looks", dev_queries=1, submissions=1)
    (player.workspace / "empty").mkdir()
    codes = player.refusals(*[lambda: player.client.submit("empty")] * (SPARE_LOOKS + 8))
    seen = player.finish()
    return with_codes(seen, codes, ["no end to looks"] if "limit_reached" not in codes else [])


# --- floods ---------------------------------------------------------------------------------------------------------


def huge_body(arena: Arena) -> Seen:
    """Bodies of many megabytes, announced and streamed."""
    player = arena.play("huge_body")
    huge = {"statement": "x" * (MAX_BODY + 1), "reason": ""}
    path = f"/runs/{player.run.id}/hypotheses"
    codes, accepted = _codes(player, [("POST", path, huge)])
    with player.http as http:
        stream = (b'{"statement": "' if n == 0 else b"x" * 2**16 for n in range(MAX_BODY // 2**16 + 2))
        codes.append(_code(http.post(path, content=stream, headers={"Content-Type": "application/json"})))
    return _ended(player, codes, accepted)


def many_at_once(arena: Arena) -> Seen:
    """More requests at once than a run has places, while another run asks for its status."""
    player, neighbour = arena.play("many_at_once"), arena.play("many_at_once_neighbour")
    with arena.bench.store.write() as tx:  # a question that no grader has come to yet
        asked = tx.submissions.ask_dev(player.run.id, key="slow", model_digest="0" * 64, limit=1)
    path = f"/runs/{player.run.id}/evaluations/{asked.id}?wait=4"

    def wait(_: int) -> str:
        with player.http as http:
            response = http.get(path)
        return "accepted" if response.is_success else _code(response)

    with ThreadPoolExecutor(3 * MAX_AT_ONCE) as pool:
        answers = [pool.submit(wait, number) for number in range(3 * MAX_AT_ONCE)]
        served = neighbour.refusals(lambda: neighbour.client.status())
        codes = [answer.result() for answer in answers]
    neighbour.abandon()
    return _ended(player, codes, ["the server for itself"] if served != ("accepted",) else [])


def endless_notebook(arena: Arena) -> Seen:
    """Notes without end, and recipes that are deep, long, or no JSON."""
    player = arena.play("endless_notebook")
    hypotheses, experiments = f"/runs/{player.run.id}/hypotheses", f"/runs/{player.run.id}/experiments"
    with player.http as http:
        notes = [http.post(hypotheses, json={"statement": "x"}) for _ in range(MAX_NOTES + 1)]
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"deeper": deep}
    codes, accepted = _codes(
        player,
        [
            ("POST", experiments, {"hypothesis": 1, "recipe": {"long": "x" * 1_000_000}}),
            ("POST", experiments, {"hypothesis": 1, "recipe": deep}),
            ("POST", experiments, {"hypothesis": 2**70, "recipe": {}}),
        ],
    )
    with player.http as http:
        body = '{"hypothesis": 1, "recipe": {"a": NaN}}'
        codes.append(_code(http.post(experiments, content=body, headers={"Content-Type": "application/json"})))
    codes += [_code(note) for note in notes if not note.is_success]
    if notes[-1].is_success:
        accepted.append(f"{len(notes)} notes")
    return _ended(player, [*codes, *_failed(codes)], accepted)


def endless_reports(arena: Arena) -> Seen:
    """Reports of used tokens without end, each a row of the store."""
    player = arena.play("endless_reports")
    with arena.bench.store.write() as tx:  # as if it had reported so often already: over HTTP this takes a minute
        from autorl_bench.store.records import Usage

        for _ in range(MAX_REPORTS):
            tx.ledger.measure(player.run.id, Usage(0.0, 0.0))
    codes = player.refusals(lambda: player.client.report_tokens(1))
    return _ended(player, codes, ["one more report"] if "accepted" in codes else [])


def numbers_too_large(arena: Arena) -> Seen:
    """Ids and counts that no database holds, so that the server fails rather than refuses."""
    player, large = arena.play("numbers_too_large"), 2**70
    run = f"/runs/{player.run.id}"
    asks: list[_Ask] = [
        ("GET", f"{run}/evaluations/{large}", None),
        ("POST", f"{run}/final", {"submission": large}),
        ("POST", f"{run}/evaluations", {"model_path": "output/model", "experiment": large}),
        ("POST", f"{run}/experiments/{large}/end", {"state": "failed"}),
        ("POST", f"{run}/usage", {"agent_tokens": large}),
        ("POST", f"{run}/usage", {"agent_tokens": -1}),
        ("GET", f"{run}/evaluations/1?wait=1e308", None),
    ]
    codes, accepted = _codes(player, asks)
    return _ended(player, codes, [*accepted, *_failed(codes)])


def _failed(codes: Sequence[str]) -> list[str]:
    return [f"a failure of the server ({code})" for code in codes if code in ("500", "server", "internal")]


# --- what an answer tells -------------------------------------------------------------------------------------------


def items_of_dev(arena: Arena) -> Seen:
    """An answer on dev, looked through for anything of single items; and the places where logs of them could be."""
    player = arena.play("items_of_dev")
    player.copy_base()
    answer = player.client.evaluate("output/model").model_dump()
    known = {"id", "state", "score", "low", "high", "items", "baseline", "reasons"}
    loot = [f"the field {name}" for name in sorted(set(answer) - known)]
    codes, accepted = _codes(
        player,
        [
            ("GET", f"/runs/{player.run.id}/evaluations/{answer['id']}/items", None),
            ("GET", f"/runs/{player.run.id}/evaluations/{answer['id']}/log", None),
            ("GET", f"/runs/{player.run.id}/logs", None),
            ("GET", "/vault/store.db", None),
            ("GET", "/static/../vault/secret.key", None),
        ],
    )
    text = json.dumps(answer) + json.dumps(player.client.details(player.run.scenario))
    loot += ["a problem of dev" for item in arena.items(player.run, "dev") if item.id in text]
    return _ended(player, codes, [*loot, *accepted])


def _cheat(attack: Callable[[Arena], Seen], defence: Defence, *codes: str, slow: bool = False) -> Cheat:
    sentence = (attack.__doc__ or "").strip()
    return Cheat(attack.__name__, sentence, Means.CLIENT, defence, frozenset(codes), attack, slow)


CHEATS = (
    _cheat(set_the_baseline, Defence.GRADER, "malformed"),
    _cheat(forged_token, Defence.TOKEN, "token"),
    _cheat(token_of_another_run, Defence.TOKEN, "token"),
    _cheat(more_dev_queries, Defence.RULES, "limit_reached"),
    _cheat(more_submissions, Defence.RULES, "limit_reached"),
    replace(_cheat(test_opened_twice, Defence.RULES, "conflict"), name="test_opened_twice"),
    _cheat(after_the_final, Defence.RULES, "conflict"),
    _cheat(after_the_deadline, Defence.RULES, "limit_reached"),
    _cheat(used_up_looks, Defence.RULES, "no_weights", "not_found"),
    _cheat(huge_body, Defence.BOUNDS, "too_large"),
    _cheat(many_at_once, Defence.BOUNDS, "too_many_at_once"),
    _cheat(endless_notebook, Defence.BOUNDS, "limit_reached", slow=True),
    _cheat(endless_reports, Defence.BOUNDS, "limit_reached"),
    _cheat(numbers_too_large, Defence.BOUNDS, "malformed"),
    _cheat(items_of_dev, Defence.RULES, "404", "not_found"),
)
