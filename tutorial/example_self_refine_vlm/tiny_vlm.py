"""Two vision-language models that a laptop trains in a minute, in the two layouts that pixels come in.

``llava`` (CLIP + Llama): ``pixel_values`` are batch-first, (images, 3, height, width). ``qwen2vl`` (Qwen2-VL):
``pixel_values`` are the patches of all images one after another, (patches, patch size), and ``image_grid_thw`` says
how many belong to each. A batch of the first is cut by rows; cutting the second by rows hands a sample the patches
of another. Trainers have to know both.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from tutorial.example_self_refine_vlm.shapes import CELL, SIDE

Layout = Literal["llava", "qwen2vl"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_WIDTH = 64
_PAD, _END = "<|endoftext|>", "<|im_end|>"
_PATCH = "<|image_pad|>"
_IMAGE = {"llava": "<image>", "qwen2vl": "<|vision_start|><|image_pad|><|vision_end|>"}
_SPECIAL = [
    _PAD,
    "<|im_start|>",
    _END,
    "<image>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class PictureProcessor(ProcessorMixin):
    """Text and pictures for the Qwen2-VL family, without its video half.

    The family's own processor wants a video processor, and that one wants torchvision. Pictures need neither.
    """

    return_mm_token_type_ids = True

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token = _PATCH
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)  # type: ignore[no-untyped-call]

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The placeholder once for each token that the vision tower makes of the picture."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        return str(self.image_token * (patches // self.image_processor.merge_size**2))

    @property
    def model_input_names(self) -> list[str]:
        """What the model's forward takes from this processor."""
        return [*super().model_input_names, "mm_token_type_ids"]


def build_tokenizer(texts: Iterable[str], vocabulary: int = 640) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of ``texts``, with the special tokens of both layouts. Any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in _TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor(layout: Layout, tokenizer: PreTrainedTokenizerFast) -> ProcessorMixin:
    """Pictures and text to model inputs, with the chat template that trainers apply."""
    template = _TEMPLATE.replace("IMAGE", _IMAGE[layout])
    if layout == "llava":
        size = {"height": SIDE, "width": SIDE}
        return LlavaProcessor(
            image_processor=CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False),
            tokenizer=tokenizer,
            patch_size=CELL,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=template,
        )
    pictures = Qwen2VLImageProcessorPil(
        patch_size=CELL // 2, merge_size=2, size={"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
    )
    return PictureProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template=template)


def build_model(layout: Layout, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model with random weights from torch's generator: some 300,000 parameters, one image token a cell."""
    model = _llava(tokenizer) if layout == "llava" else _qwen2vl(tokenizer)
    # The families' own spread, 0.02, is that of wide models: at this width it costs hundreds of steps.
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5)
    return model


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def _llava(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": CELL,
    }
    config = LlavaConfig(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config=vision,
        vision_feature_layer=-1,
        image_token_index=_id(tokenizer, "<image>"),
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


def _qwen2vl(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    vision = {
        "depth": 2,
        "embed_dim": _WIDTH,
        "hidden_size": _WIDTH,
        "num_heads": 4,
        "mlp_ratio": 2,
        "patch_size": CELL // 2,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    # Half a head's width is shared among time, height and width positions.
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config={**_text(tokenizer), "rope_parameters": rope},
        vision_config=vision,
        image_token_id=_id(tokenizer, "<|image_pad|>"),
        video_token_id=_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2VLForConditionalGeneration(config)


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return tokenizer.get_vocab()[token]


def load(folder: Path, layout: Layout) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model and its processor, as :mod:`~tutorial.example_self_refine_vlm.train_tiny` saved them."""
    kind = LlavaForConditionalGeneration if layout == "llava" else Qwen2VLForConditionalGeneration
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return kind.from_pretrained(folder), build_processor(layout, tokenizer)
