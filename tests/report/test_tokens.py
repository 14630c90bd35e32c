from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from astune.report.tokens import Segment, Tile, segments, token_decoder, visible
from astune.trace import Trajectory
from tests.report.demo import decode, encode, make_episode, make_task, tokenizer


def demo_segments() -> list[Segment]:
    episode = make_episode(make_task(0), 0, None, skill=1.0, seed=0)
    return segments(episode.trajectories[0], decode)


def of_mask(mask: list[int]) -> Trajectory:
    return Trajectory(list(range(len(mask))), mask, [-0.5 * bit for bit in mask], [])


def test_messages_are_told_apart_by_role():
    assert [segment.role for segment in demo_segments()] == [
        "system", "user", "assistant", "tool_response", "assistant",
    ]  # fmt: skip


def test_every_token_is_one_tile_in_order():
    episode = make_episode(make_task(0), 0, None, skill=1.0, seed=0)
    tiles = [tile for segment in segments(episode.trajectories[0], decode) for tile in segment.tiles]
    assert [(tile.position, tile.id) for tile in tiles] == list(enumerate(episode.trajectories[0].ids))


def test_only_sampled_tokens_carry_a_logprob():
    assert [segment.trained > 0 for segment in demo_segments()] == [False, False, True, False, True]


def test_markup_tokens_are_special_and_plain_text_is_not():
    special = {tile.text for segment in demo_segments() for tile in segment.tiles if tile.special}
    assert special == {
        "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
    }  # fmt: skip


def test_newline_is_shown_and_ends_the_line():
    tiles = [tile for segment in demo_segments() for tile in segment.tiles if tile.text == "⏎"]
    assert tiles
    assert all(tile.breaks for tile in tiles)


def test_unknown_template_is_cut_where_sampling_starts_and_ends():
    found = segments(of_mask([0, 0, 1, 1, 0, 1]), lambda _: "x")
    assert [(segment.role, len(segment.tiles)) for segment in found] == [
        ("text", 2), ("assistant", 2), ("text", 1), ("assistant", 1),
    ]  # fmt: skip


def test_llama_headers_are_message_boundaries():
    texts = ["<|begin_of_text|>", "<|start_header_id|>", "user", "<|end_header_id|>", "hi", "<|start_header_id|>",
             "assistant", "<|end_header_id|>", "yo"]  # fmt: skip
    found = segments(of_mask([0] * 8 + [1]), texts.__getitem__)
    assert [segment.role for segment in found] == ["text", "user", "assistant"]


@given(st.lists(st.integers(0, 1), max_size=30))
def test_no_token_is_lost_whatever_the_mask(mask: list[int]):
    found = segments(of_mask(mask), lambda id_: "<|im_start|>" if id_ % 7 == 3 else "a")
    assert [tile.id for segment in found for tile in segment.tiles] == list(range(len(mask)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\n", "⏎"), ("a\n\n", "a⏎⏎"), ("\t", "⇥"), ("  ", "␣␣"), (" the", " the"), ("\x1b[0m", "\\x1b[0m"),
     ("\u202e", "\\u202e"), ("é", "é"), ("", "")],
)  # fmt: skip
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("logprob", "shade"), [(0.0, 0), (-0.01, 0), (-0.2, 1), (-0.6, 2), (-1.2, 3), (-9.0, 4), (-float("inf"), 4)]
)
def test_shade_grows_with_surprise(logprob: float, shade: int):
    assert Tile(0, 1, "a", False, False, logprob).shade == shade


def test_decoder_of_a_transformers_tokenizer_shows_special_tokens_and_spaces():
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer())
    text = "<tool_call>\n the  eggs , 18<|im_end|>"
    assert "".join(map(token_decoder(wrapped), encode(text))) == text


def test_demo_tokenizer_keeps_special_tokens_whole():
    assert [decode(id_) for id_ in encode("<tool_call>")] == ["<tool_call>"]
