"""What is recognised as shared."""

from __future__ import annotations

from astune.rollout.backend import refill
from astune.rollout.prefix_cache import MIN_ROOT, PrefixCache, Stem, Tokens, common_length

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
