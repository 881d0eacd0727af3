"""The image encoder: features, other grids, what a blind or blurred model sees, films, a frozen encoder."""

from __future__ import annotations

import torch

from gitbench.gate.exact.constant import fill, pictures
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.tiny import ENCODER, tiny
from gitbench.gate.exact.values import Values, gradient, gradients
from gitbench.models.encoder import ImageEncoder
from gitbench.models.fast_linear import LARGE, linear
from gitbench.models.git import blurred
from gitbench.training.frozen import FrozenEncoder
from gitbench.variants.vision import VisionSpec


def add(values: Values, place: Place) -> None:
    """Add what becomes of pixels in the image encoder."""
    model, device = tiny(device=place.device), place.device
    images = pictures(2, 3, 24, 24).to(device)
    features = model.encoder(images)
    values.tensor("features of two images", features)
    values.near("features: the class token of the first image", features[0, 0])
    values.tensor(
        "features of a part of the patches", model.encoder(images, torch.tensor([[4, 0], [2, 7]], device=device))
    )
    values.tensor("features of an image of another grid", model.encoder(pictures(1, 3, 21, 34).to(device)))
    values.tensor("image tokens, projected", model.encode(images))
    values.tensor("pixels, blurred", blurred(images, 1.5))
    values.tensor("image tokens of a blind model", tiny(device=device, vision=VisionSpec(blind=True)).encode(images))
    values.tensor("image tokens of a blurred model", tiny(device=device, vision=VisionSpec(blur=2.0)).encode(images))
    film = pictures(2, 3, 3, 24, 24).to(device)
    values.tensor("image tokens of films, with a temporal embedding", tiny(device=device, num_frames=3).encode(film))
    values.tensor("image tokens of films, without", model.encode(film))
    values.tensor("image tokens of films of fewer frames", tiny(device=device, num_frames=4).encode(film))
    _large(values, device)
    add_frozen(values, place)
    output = model.encoder(images)
    output.backward(pictures(*output.shape, name="a gradient").to(device))
    values.tensors("gradient of the encoder", gradients(model.encoder))


def _large(values: Values, device: str) -> None:
    """Add a product with a weight so large that CPUs take another way, in float32: of small whole numbers it is exact."""
    rows = LARGE // 512
    weight = (8 * pictures(rows, 512, name="weight")).round().float().to(device).requires_grad_()
    x = (8 * pictures(3, 512, name="x")).round().float().to(device).requires_grad_()
    result = linear(x, weight, weight[:, 0])
    result.backward((8 * pictures(3, rows, name="y")).round().float().to(device))
    values.tensor("a large linear layer in float32", result, precision="float32")
    values.tensors(
        "gradient of a large linear layer in float32",
        {"x": gradient(x), "weight": gradient(weight)},
        precision="float32",
    )


def add_frozen(values: Values, place: Place) -> None:
    """Add what a frozen encoder makes of images, in a model that trains, and what it keeps of a data set's."""
    small = place.small(variants={"encoder_training": "frozen"})
    model = small.model().train()
    parameters = list(model.git.encoder.parameters())
    values.equal(
        "frozen encoder: in training mode", [part.training for part in model.git.encoder.modules()].count(True)
    )
    values.equal("frozen encoder: tensors with a gradient", sum(each.requires_grad for each in parameters))
    values.equal("trained encoder: tensors without", sum(not each.requires_grad for each in tiny().parameters()))
    encoder = FrozenEncoder(ENCODER).to(place.device)
    fill(encoder)
    images = pictures(3, 3, 24, 24).to(place.device)
    own = encoder.double()(images)
    same = ImageEncoder(ENCODER).double().to(place.device)
    same.load_state_dict(encoder.state_dict())
    values.tensor("frozen encoder: features", own)
    values.tensor(
        "frozen encoder: features, less those of a trained one", own - same.eval()(images), scale=own.abs().sum().item()
    )
    plain = small.model().float()
    kept, data = plain.git.encoder, small.data("val")
    kept.keep(data, plain.data_preprocessor.normalised)
    with kept.known("val", [2, 0]):
        found = kept(torch.zeros(2, 3, 64, 64, device=place.device))
    pixels = torch.from_numpy(data.images[[2, 0]].copy()).movedim(-1, -3)
    gap = (found - kept.encode(plain.data_preprocessor.normalised(pixels))).abs().max().item()
    values.near("frozen encoder: kept features, less those made anew", gap, found.abs().max().item(), "float32")
