from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.evaluation.clip import model_clip, open_clip
from versatile_diffusion.modalities import TextModality
from versatile_diffusion.modalities.image import clip_pixels

CPU = torch.device("cpu")
IMAGES = [torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(n)) for n in range(2)]
TEXTS = ["a red tent", "a blue lighthouse by the sea"]


def test_a_models_own_clip_is_what_it_reads_contexts_with(
    model: Path, session_pipe: VersatileDiffusionPipeline
) -> None:
    clip = model_clip(str(model), CPU)
    own = session_pipe.encode_context("image", IMAGES)[:, 0].float()
    torch.testing.assert_close(clip.images(IMAGES), normalize(own, dim=-1), atol=2e-3, rtol=0)
    assert clip.texts(TEXTS).norm(dim=-1).tolist() == pytest.approx([1, 1]) and "its own CLIP" in clip.name


def test_a_clip_of_transformers_is_read_from_a_folder(tmp_path: Path, session_pipe: VersatileDiffusionPipeline) -> None:
    text = session_pipe.modalities["text"]
    assert isinstance(text, TextModality)
    tokenizer: Any = text.tokenizers.clip
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 8,
    }
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 12, "eos_token_id": tokenizer.eos_token_id}
    vision = {**small, "image_size": 32, "patch_size": 16}
    whole: Any = CLIPModel(CLIPConfig(text_config={**small, **words}, vision_config=vision, projection_dim=8)).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    clip = open_clip(str(tmp_path), CPU)
    ids = tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        seen = whole.get_image_features(torch.stack([clip_pixels(image, 32) for image in IMAGES])).pooler_output
        said = whole.get_text_features(ids).pooler_output
    torch.testing.assert_close(clip.images(IMAGES), normalize(seen, dim=-1))
    torch.testing.assert_close(clip.texts(TEXTS), normalize(said, dim=-1))
