"""Where the image encoder starts: "random" (CLIP's own initial values), or "contrastive", pre-trained on the run's own
training images and captions by the profile's recipe: stage i of the paper (p. 4). "clip_b16" and "clip_l14" are
OpenAI's weights, from which GIT_B and GIT_L start (Table 11), fetched by timm; they fit the encoders vit_b16 and vit_l14.
Other weights, of any CLIP-shaped ViT: `--cfg-options model.encoder_init.source=file model.encoder_init.path=FILE`.
"""

from __future__ import annotations

from gitbench.spec import EncoderInitSpec
from gitbench.variants import add

add("encoder_init", "random", EncoderInitSpec())
add("encoder_init", "contrastive", EncoderInitSpec(source="contrastive"))
add("encoder_init", "clip_b16", EncoderInitSpec(source="file", path="vit_base_patch16_clip_quickgelu_224.openai"))
add("encoder_init", "clip_l14", EncoderInitSpec(source="file", path="vit_large_patch14_clip_quickgelu_224.openai"))
