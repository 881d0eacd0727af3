"""How photographs become pixels: as in training, as the official code does it, as a Hugging Face processor says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from gitbench.data.image_processor import (
    ImageProcessor,
    huggingface_processor,
    official_parameters,
    official_processor,
    square_processor,
)
from gitbench.errors import GitbenchError
from gitbench.training.caption_model import ImagePreprocessor


def test_rules_for_photographs(tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    square = torch.from_numpy(square_processor(32).resized(photograph).copy()).permute(2, 0, 1)
    own = ImagePreprocessor().normalised(square[None])
    assert np.array_equal(own[0].numpy(), square_processor(32).pixels(photograph))  # as trained, to the bit
    vqa = official_processor({"test_crop_size": 480, "test_respect_ratio_max": 640}, 224)
    assert [vqa.target(*size) for size in ((480, 640), (600, 600), (100, 400), (427, 640))] == [
        (480, 640),
        (480, 480),
        (160, 640),
        (427, 640),
    ]
    assert official_processor({}, 96) == dataclasses.replace(
        square_processor(96), upright=False
    )  # as the official code
    assert huggingface_processor(tmp_path, 64) == square_processor(64)
    processor = {"size": {"shortest_edge": 48}, "crop_size": {"height": 32, "width": 40}, "image_mean": [0.5] * 3}
    processor |= {"image_std": [0.5] * 3, "resample": 2, "do_center_crop": True}
    expected = ImageProcessor(size=48, crop=(32, 40), mean=(0.5,) * 3, std=(0.5,) * 3, resample=2)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": processor}))  # transformers 5
    assert huggingface_processor(tmp_path, 64) == expected and expected.pixels(photograph).shape == (3, 32, 40)
    older = {"size": 48, "crop_size": 40, "do_normalize": False, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(older))
    assert huggingface_processor(tmp_path, 64) == ImageProcessor(size=48, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert huggingface_processor(tmp_path, 64).target(40, 70) == (48, 84)
    for broken in ({"size": {"width": 3}}, {"size": 0}, {"size": 4, "image_mean": [1]}, {"crop_size": 3}, [1]):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(broken))
        with pytest.raises(GitbenchError, match="preprocessor_config.json states no image size"):
            huggingface_processor(tmp_path, 64)


@pytest.mark.parametrize("size", [(40, 70), (70, 40), (32, 32)])
def test_pixels_equal_hugging_face(size, tmp_path):
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    photograph = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = processor(Image.fromarray(photograph), return_tensors="np")["pixel_values"][0]
    assert np.abs(huggingface_processor(tmp_path, 224).pixels(photograph) - theirs).max() <= 1e-6


def test_parameters_stand_beside_the_file_or_above_snapshot(tmp_path):
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "parameter.yaml").write_text("test_crop_size: 420\nimage_encoder_type: CLIPViT_L_14\n")
    assert official_parameters(tmp_path / "snapshot" / "model.pt")["test_crop_size"] == 420
    assert official_parameters(tmp_path / "model.pt")["test_crop_size"] == 420
    (tmp_path / "elsewhere").mkdir()
    assert official_parameters(tmp_path / "elsewhere" / "model.pt") == {}
    (tmp_path / "parameter.yaml").write_text("a: [")
    with pytest.raises(GitbenchError, match="cannot be read"):
        official_parameters(tmp_path / "model.pt")
