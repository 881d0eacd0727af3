"""What captioning does to the image encoder: "trained" at the profile's rate, the paper's 1:5 (p. 6), "frozen", or
trained at another share of the decoder's rate: "ratio_1_20" and "ratio_1_1". The paper trains all parameters (p. 5).
"""

from __future__ import annotations

from gitbench.spec import EncoderTrainingSpec
from gitbench.variants import add

add("encoder_training", "trained", EncoderTrainingSpec())
add("encoder_training", "frozen", EncoderTrainingSpec(frozen=True))
add("encoder_training", "ratio_1_20", EncoderTrainingSpec(lr_ratio=1 / 20))
add("encoder_training", "ratio_1_1", EncoderTrainingSpec(lr_ratio=1.0))
