"""A pre-trained encoder as a file: 8 bits a weight within a known error, and nothing but what was written is read."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_errors import refused
from safetensors.numpy import load_file, save_file

from gitbench.encoders.store import (
    content_of,
    is_encoder,
    quantised,
    read_encoder,
    restored,
    write_encoder,
)

RANDOM = np.random.default_rng(0)
STATE = {
    "cls_token": RANDOM.normal(size=(1, 1, 8)).astype(np.float32),
    "patch_embed.proj.weight": RANDOM.normal(size=(8, 3, 4, 4)).astype(np.float32),
    "blocks.0.attn.qkv.weight": RANDOM.normal(size=(24, 8)).astype(np.float32) * np.logspace(-4, 2, 24)[:, None],
    "blocks.0.attn.qkv.bias": RANDOM.normal(size=24).astype(np.float32),
}


def test_weights_are_off_by_at_most_half_a_step_and_the_rest_not_at_all(tmp_path):
    write_encoder(tmp_path / "one.safetensors", STATE, {"seconds": 2.5})
    found = read_encoder(tmp_path / "one.safetensors")
    assert found.notes == {"seconds": 2.5} and found.state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        rows, ours = tensor.reshape(len(tensor), -1), found.state[name].reshape(len(tensor), -1)
        assert found.state[name].shape == tensor.shape and found.state[name].dtype == np.float32
        half = np.abs(rows).max(1, keepdims=True) / 127 / 2 if tensor.ndim in (2, 4) else 0
        assert (np.abs(ours - rows) <= half * 1.0001).all()
    assert quantised(STATE)["patch_embed.proj.weight"].dtype == np.int8


def test_storing_what_was_stored_changes_nothing():
    once = quantised(STATE)
    assert content_of(quantised(restored(once))) == content_of(once)


def test_a_row_of_zeros_stays_zero():
    state = {"a.weight": np.zeros((2, 3), np.float32)}
    assert (restored(quantised(state))["a.weight"] == 0).all()


def test_the_content_is_that_of_the_tensors_alone(tmp_path):
    one = write_encoder(tmp_path / "one.safetensors", STATE, {"seconds": 1})
    assert one == write_encoder(tmp_path / "two.safetensors", STATE, {"seconds": 2})
    moved = {**STATE, "cls_token": STATE["cls_token"] + 1e-3}
    assert one != write_encoder(tmp_path / "three.safetensors", moved, {"seconds": 1})
    assert read_encoder(tmp_path / "two.safetensors", one).content == one
    with refused("holds another encoder than the one asked for"):
        read_encoder(tmp_path / "three.safetensors", one)


def test_damage_and_foreign_files_are_refused(tmp_path):
    file = tmp_path / "one.safetensors"
    write_encoder(file, STATE, {})
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    for damage in (whole[:300], whole[:-9], b"", b"\x00" * 50, bytes(flipped)):
        file.write_bytes(damage)
        with refused("is damaged"):
            read_encoder(file)
    tensors = load_file_of(whole, tmp_path)
    save_file(tensors, file)
    assert not is_encoder(file)
    with refused("is no encoder of gitbench"):
        read_encoder(file)
    with refused("does not exist"):
        read_encoder(tmp_path / "gone.safetensors")


def load_file_of(content: bytes, folder) -> dict[str, np.ndarray]:
    (folder / "copy.safetensors").write_bytes(content)
    assert is_encoder(folder / "copy.safetensors")
    return load_file(folder / "copy.safetensors")


@pytest.mark.parametrize("name", ["blocks.0.attn.qkv.weight", "cls_token"])
def test_nothing_that_is_stored_may_be_missing(tmp_path, name):
    file = tmp_path / "one.safetensors"
    content = write_encoder(file, STATE, {})
    fewer = {each: tensor for each, tensor in load_file(file).items() if each != name}
    save_file(fewer, file, {"format": "gitbench-encoder-1", "content": content, "notes": "{}"})
    with refused("is damaged"):
        read_encoder(file)
