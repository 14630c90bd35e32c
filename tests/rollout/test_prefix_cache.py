"""What is recognised as shared."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from astune.rollout.backend import refill
from astune.rollout.prefix_cache import MIN_ROOT, MIN_SAVED, PrefixCache, Stem, Tokens, common_length

HEAD = tuple(range(MIN_ROOT))


def add(cache: PrefixCache, *wanted: Tokens) -> list[Stem]:
    return cache.add(wanted)


def test_common_length_finds_the_first_difference() -> None:
    assert [common_length([1, 2, 3, 4], other) for other in ([1, 2, 9, 4], [1, 2], [], [9], [1, 2, 3, 4, 5])] == [
        2, 2, 0, 0, 4,
    ]  # fmt: skip


def test_different_stems_share_their_beginning() -> None:
    one, two = add(PrefixCache(100), (*HEAD, 7, 1), (*HEAD, 7, 2))
    assert one.root is two.root is not None
    assert (one.root.tokens, one.rest, two.rest) == ((*HEAD, 7), (1,), (2,))


def test_a_lone_stem_has_no_root() -> None:
    assert add(PrefixCache(100), (*HEAD, 1, 2))[0].root is None


def test_a_later_stem_finds_the_beginning_it_shares_with_an_earlier_one() -> None:
    cache = PrefixCache(100)
    add(cache, (*HEAD, 1, 2))
    later = add(cache, (*HEAD, 3, 4))[0]
    assert later.root is not None
    assert later.root.tokens == HEAD


def test_a_short_common_beginning_is_no_root() -> None:
    assert [stem.root for stem in add(PrefixCache(100), (*HEAD[:-1], 97, 98), (*HEAD[:-1], 99))] == [None, None]


def test_a_stem_that_is_the_beginning_of_another_keeps_a_token_of_its_own() -> None:
    short, long = add(PrefixCache(100), (*HEAD, 1), (*HEAD, 1, 2))
    assert (short.rest, long.rest) == ((1,), (1, 2))


QUESTION = MIN_SAVED // 2  # long enough for three answers to share


def nested(question: int, answers: int, length: int = QUESTION) -> list[Tokens]:
    """Stems of one question: the head that all have, the question, and answers that differ."""
    return [(*HEAD, *[100 + question] * length, 200 + answer) for answer in range(answers)]


def test_a_root_grows_out_of_a_shorter_one() -> None:
    stems = add(PrefixCache(1000), *nested(0, 3), *nested(1, 4))
    roots = [stem.root for stem in stems]
    assert [len(root.rest) for root in roots if root] == [QUESTION] * 7
    assert [root.parent.tokens for root in roots if root and root.parent] == [HEAD] * 7
    assert len({id(root) for root in roots}) == 2


def test_a_later_question_grows_out_of_the_known_head() -> None:
    cache = PrefixCache(1000)
    add(cache, *nested(0, 3), *nested(1, 3))
    [root] = {stem.root for stem in add(cache, *nested(2, 3))}
    assert root is not None
    assert root.parent is not None
    assert root.parent.tokens == HEAD


def test_a_root_on_a_root_must_save_enough() -> None:
    few = MIN_SAVED // MIN_ROOT  # one stem too few, since the first of them saves nothing
    stems = add(PrefixCache(1000), *nested(0, few, MIN_ROOT), *nested(1, few + 1, MIN_ROOT))
    assert [len(stem.root.tokens) for stem in stems if stem.root] == [MIN_ROOT] * few + [2 * MIN_ROOT] * (few + 1)


def test_a_root_that_another_grew_out_of_stays_while_that_is_used() -> None:
    cache = PrefixCache(keep_tokens=0)
    stems = add(cache, *nested(0, 3), *nested(1, 3))
    stems[0].users = 1
    cache.trim()
    assert sorted(len(root.tokens) for root in cache.roots) == [MIN_ROOT, MIN_ROOT + QUESTION]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from([(1,) * 20, (2,) * 20, (3,), (4,)]), min_size=1, max_size=6), max_size=12))
def test_every_stem_stands_on_a_chain_of_its_own_beginnings(parts: list[list[Tokens]]) -> None:
    cache = PrefixCache(1000)
    wanted = [tuple(token for part in parts_of_one for token in part) for parts_of_one in parts]
    for stem in [*cache.add(wanted[::2]), *cache.add(w for w in wanted[1::2] if cache.get(w) is None)]:
        beginning, root = stem.tokens, stem.root
        while root is not None:
            assert beginning[: len(root.tokens)] == root.tokens
            assert len(root.tokens) < len(beginning)
            beginning, root = root.tokens, root.parent


def test_equal_stems_are_one() -> None:
    cache = PrefixCache(100)
    stem = add(cache, (1, 2, 3), (1, 2, 3))
    assert len(stem) == 1
    assert cache.get((1, 2, 3)) is stem[0]


def test_unused_stems_go_oldest_first() -> None:
    cache = PrefixCache(keep_tokens=5)
    add(cache, (1, 1, 1), (2, 2, 2))
    cache.get((1, 1, 1))
    cache.trim()
    assert (cache.get((1, 1, 1)) is not None, cache.get((2, 2, 2))) == (True, None)


def test_stems_in_use_stay() -> None:
    cache = PrefixCache(keep_tokens=0)
    add(cache, (1, 1, 1))[0].users = 1
    cache.trim()
    assert cache.get((1, 1, 1)) is not None


def test_holes_are_filled_from_the_end() -> None:
    rows = list("abcdefg")
    leaving = [1, 4, 6]
    for source, target in refill(7, leaving):
        rows[target] = rows[source]
    assert rows[:4] == ["a", "f", "c", "d"]
