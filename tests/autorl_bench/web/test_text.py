"""Numbers in typography, and other people's words made harmless."""

from __future__ import annotations

import math

import pytest

from autorl_bench.store.tokens import new_token
from autorl_bench.web.text import clean, clip, duration, flat, plural, ratio, signed, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07body", "body"),
        ("10 %\r50 %\r100 %\n", "100 %\n"),
        ("a\r\nb", "a\nb"),
        ("a\x00b\x08", "a[U+0000]b[U+0008]"),
        ("user\u202e}\u2066", "user[U+202E]}[U+2066]"),
        ("ordinary − “text”\n\t漢字", "ordinary − “text”\n\t漢字"),
    ],
)
def test_what_would_deceive_a_reader_is_taken_out(text: str, shown: str):
    assert clean(text) == shown


def test_a_token_is_never_shown():
    token = new_token("nano_gsm_20270115-0a1b")
    assert clean(f"export AUTORL_TOKEN={token}\n'{token}'") == "export AUTORL_TOKEN=[token]\n'[token]'"


def test_a_hash_is_no_token():
    assert clean(f"sha256:{'a' * 64}") == f"sha256:{'a' * 64}"


def test_a_long_text_is_clipped_and_says_so():
    assert clip("a" * 12, 10) == "aaaaaaaaaa … (2 more characters)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.25, "+1.2"), (-3.0, "−3.0"), (0.0, "+0.0"), (-0.01, "+0.0"), (math.inf, "+∞"), (-math.inf, "−∞")],
)
def test_differences_carry_their_sign(value: float, shown: str):
    assert signed(value) == shown


def test_shares_need_no_plus():
    assert (ratio(0.934), ratio(-0.2)) == ("0.93", "−0.20")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 s"), (0.44, "0.4 s"), (59.6, "1 min"), (252.4, "4 min 12 s"), (3600, "1 h"), (7260, "2 h 1 min")],
)
def test_durations_read_like_words(value: float, shown: str):
    assert duration(value) == shown


def test_sizes_and_counts_read_like_words():
    assert [size(value) for value in (12, 2048, 3 * 2**20, 5 * 2**40)] == ["12 B", "2 KiB", "3.0 MiB", "5120.0 GiB"]
    assert (plural(1, "dev query"), plural(1200, "dev query")) == ("1 dev query", "1,200 dev queries")


def test_a_recipe_is_flattened_in_its_order_within_bounds():
    deep: dict = {}
    inner = deep
    for _ in range(3000):
        inner["x"] = {}
        inner = inner["x"]
    assert flat({"b": {"c": 1, "d": [1, "x"]}, "a": "word"}) == [("b.c", "1"), ("b.d", '[1, "x"]'), ("a", "word")]
    assert len(flat({str(n): n for n in range(1000)}, most=5)) == 6
    ((name, _),) = flat(deep)
    assert len(name) < 200
