"""What each task makes of scenes: texts, requests, items and batches; captions stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_data import CAPTION, CLASSIFY, READ, TEXT, VIDEO, VQA
from helpers_errors import refused

from gitbench.data import open_source
from gitbench.data.base import content_hash
from gitbench.data.cache import decoded_split, encoded_split, joined
from gitbench.data.dataset import CaptionDataset, collate, prefix_ids
from gitbench.data.scenes.words import WORDS
from gitbench.data.scenes.world import Scenes, scenes_with_a_sign, word_of
from gitbench.data.tasks import Request, Text, open_task, study_fingerprint
from gitbench.data.tokenizer import tokenizer_for
from gitbench.spec import DataSpec, TaskSpec

SPEC = DataSpec(image_size=24, train_images=12, val_images=6, test_images=6, crop_scale=(0.5, 1.0))


def items(
    task: TaskSpec, data: str = "scenes", train: bool = True, texts: int | None = 3, **spec: Any
) -> CaptionDataset:
    values = DataSpec(**{**SPEC.__dict__, **spec})
    tokenizer = tokenizer_for(TEXT, open_task(data, "train", values.train_images, task))
    return CaptionDataset(data, "train" if train else "test", values, TEXT, tokenizer, 3, texts, train, task)


# ---- captions stay what they were ---------------------------------------------------------------------------------


def test_captions_keep_their_fingerprint_texts_and_pictures() -> None:
    plain, task = open_source("scenes", "val", 5), open_task("scenes", "val", 5, CAPTION)
    assert task.fingerprint() == plain.fingerprint() == task.image_fingerprint()
    assert study_fingerprint("scenes", SPEC) == content_hash(
        [open_source("scenes", split, n).fingerprint() for split, n in (("train", 12), ("val", 6), ("test", 6))]
    )
    example = plain.example(3)
    assert task.texts(3) == tuple(Text(prefix="", target=caption) for caption in example.captions)
    assert task.requests(3) == (Request(request_id=plain.image_id(3), prefix="", references=example.captions),)
    assert np.array_equal(task.image(3), plain.image(3)) and task.example(3) == example
    assert np.array_equal(task.pixels(3, 20), plain.render(3, 20))
    assert task.ceiling_caption(3) == plain.ceiling_caption(3)
    assert tokenizer_for(TEXT, task).fingerprint() == tokenizer_for(TEXT, plain).fingerprint()
    assert encoded_split(task, tokenizer_for(TEXT, task), 16).prefixes_of(2) == [0] * 5


def test_each_task_has_its_own_fingerprint() -> None:
    values = [open_task("scenes", "val", 6, task).fingerprint() for task in (CAPTION, VQA, READ, CLASSIFY)]
    values += [open_task("scenes-motion", "val", 6, TaskSpec(name="video", frames=n)).fingerprint() for n in (2, 3)]
    values.append(open_task("scenes", "val", 7, READ).fingerprint())
    assert len(set(values)) == len(values)
    assert values[2] == open_task("scenes", "val", 6, READ).fingerprint()
    assert study_fingerprint("scenes", SPEC, VQA) != study_fingerprint("scenes", SPEC)


# ---- scenes -------------------------------------------------------------------------------------------------------


def test_scene_questions_are_prefixes_and_requests() -> None:
    task, world = open_task("scenes", "test", 300, VQA), Scenes("scenes", "test", 300)
    asked = []
    for index in range(300):
        questions = world.example(index).questions
        assert [(text.prefix, text.target) for text in task.texts(index)] == [
            (one.text, one.answer) for one in questions
        ]
        assert task.requests(index) == tuple(
            Request(request_id=f"scenes-test-{index}#{place}", prefix=one.text, references=(one.answer,))
            for place, one in enumerate(questions)
        )
        asked += [one.text.split() for one in questions if one.text.startswith("is there")]
    assert {words[2] for words in asked} == {"a", "an"}
    assert all((words[2] == "an") == (words[3][0] in "aeiou") for words in asked)


def test_a_limit_counts_scenes_that_can_be_read() -> None:
    task, world = open_task("scenes", "test", 20, READ), Scenes("scenes", "test", 2000)
    with_sign = [k for k in range(600) if sum(bool(item.word) for item in world.scene(k).graph.objects) == 1][:20]
    assert [task.image_id(index) for index in range(len(task))] == [f"scenes-test-{k}" for k in with_sign]
    for index, number in enumerate(with_sign):
        word = word_of(world.scene(number).graph)
        assert word in WORDS and task.texts(index) == (Text(prefix="", target=word or ""),)
        assert task.requests(index) == (Request(request_id=f"scenes-test-{number}", prefix="", references=(word,)),)
        assert np.array_equal(task.image(index), world.image(number))
    assert task.vocabulary() == tuple(sorted(WORDS)) == open_task("scenes", "val", 2, CLASSIFY).vocabulary()
    assert task.image_fingerprint() != Scenes("scenes", "test", with_sign[-1] + 1).fingerprint()
    stored = decoded_split(task, 24)
    assert stored.shape == (20, 24, 24, 3) and np.array_equal(stored[9], world.render(with_sign[9], 24))


def test_signs_found_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    scenes_with_a_sign.cache_clear()
    first = scenes_with_a_sign("scenes", "val", 4)
    (file,) = (tmp_path / "signs").glob("*.npy")
    more = scenes_with_a_sign("scenes", "val", 9)
    assert more[:4] == first and np.load(file).tolist() == list(more) and list(more) == sorted(set(more))
    scenes_with_a_sign.cache_clear()
    looked_at: list[int] = []
    scene = Scenes.scene
    monkeypatch.setattr(Scenes, "scene", lambda self, index: (looked_at.append(index), scene(self, index))[1])
    assert scenes_with_a_sign("scenes", "val", 6) == more[:6]
    assert max(looked_at) < 12  # the scenes of the content key: none was searched
    file.write_bytes(file.read_bytes()[:90])  # cut short: found again
    scenes_with_a_sign.cache_clear()
    assert scenes_with_a_sign("scenes", "val", 9) == more
    scenes_with_a_sign.cache_clear()


def test_films_are_stored_frame_by_frame_and_cropped_alike() -> None:
    task, world = open_task("scenes-motion", "train", 12, VIDEO), Scenes("scenes-motion", "train", 12)
    assert task.image(2).shape == (3, 64, 64, 3) and np.array_equal(task.image(2), world.frames(2, 3))
    stored = decoded_split(task, 28)
    assert stored.shape == (12, 3, 28, 28, 3) and np.array_equal(stored[5], world.frames(5, 3, 28))
    still = [all(item.motion == "still" for item in world.scene(k).graph.objects) for k in range(12)]
    assert 0 < sum(still) < 12
    for index in range(12):
        assert np.array_equal(stored[index][0], stored[index][2]) == still[index]
    data = items(VIDEO, "scenes-motion")
    batch = collate([data[k] for k in range(12)])
    assert batch["images"].shape == (12, 3, 3, 24, 24) and batch["images"].dtype == torch.uint8
    for index, image in zip(batch["indices"], batch["images"], strict=True):
        assert torch.equal(image[0], image[2]) == still[index]  # another crop in each frame would tell them apart
    whole = items(VIDEO, "scenes-motion", train=False)[1]["image"]
    assert torch.equal(whole, torch.tensor(Scenes("scenes-motion", "test", 6).frames(1, 3, 24)).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("data", "task", "message"),
    [
        ("scenes", VIDEO, r"--task video needs films and scenes holds still images: pass --data scenes-motion"),
        ("scenes-motion", TaskSpec(name="video"), "a film of 0 frames shows nothing"),
        ("scenes", TaskSpec(name="read", frames=2), "--task read has still images and takes no frames"),
        ("scenes", TaskSpec(name="vqq"), "unknown task 'vqq': did you mean 'vqa'"),  # type: ignore[arg-type]
    ],
)
def test_tasks_that_the_data_cannot_do(data: str, task: TaskSpec, message: str) -> None:
    with refused(message):
        open_task(data, "train", 4, task)
    with refused("limit of 0 images"):
        open_task("scenes", "train", 0, READ)


# ---- items and batches --------------------------------------------------------------------------------------------


LENGTHS = [(20, 20, 20, 20), (20, 21, 17, 21), (40, 3, 35, 3), (40, 40, 0, 38), (0, 40, 0, 40), (1, 39, 1, 39),
           (1, 40, 0, 38)]  # fmt: skip


@pytest.mark.parametrize(("given", "said", "kept_given", "kept_said"), LENGTHS)
def test_long_texts_are_cut_as_the_official_code_cuts(given: int, said: int, kept_given: int, kept_said: int) -> None:
    prefix, target = list(range(100, 100 + given)), list(range(500, 500 + said))
    ids, length = joined(prefix, target, 40)
    assert length == kept_given and len(ids) == kept_given + kept_said
    assert ids == (prefix + target)[len(prefix) + len(target) - len(ids) :]


def test_a_question_is_cut_to_its_end() -> None:
    tokenizer = tokenizer_for(TEXT, open_task("scenes", "train", 12, VQA))
    words = "what color is the red circle above the blue star and how many squares are there ?"
    payload = tokenizer.encode(words, 99)
    for most in (len(payload) + 1, len(payload)):  # up to most - 2 it is whole; what is longer than most goes first
        kept = payload[-(most - 2) :]
        assert prefix_ids(tokenizer, words, most) == [tokenizer.bos_id, *kept]
    assert prefix_ids(tokenizer, words, len(payload) - 4) == [tokenizer.bos_id, *payload[:-4][2:]]
    assert prefix_ids(tokenizer, words, 99) == [tokenizer.bos_id, *payload]
    assert prefix_ids(tokenizer, "", 99) == [tokenizer.bos_id]


@pytest.mark.parametrize("task", [CAPTION, VQA], ids=["caption", "vqa"])
def test_a_batch_is_padded_and_marked(task: TaskSpec) -> None:
    data = items(task, train=False, texts=None)
    tokenizer = data.tokenizer
    batch = collate([data[k] for k in range(6)])
    shape = batch["tokens"].shape
    assert batch["images"].shape == (6, 3, 24, 24) and batch["images"].dtype == torch.uint8
    assert (batch["tokens"].dtype, batch["need_predict"].dtype) == (torch.int64, torch.bool)
    assert batch["prefix_lengths"].dtype == torch.int64 and batch["prefix_lengths"].shape == shape[:2]
    longest = 0
    for place, index in enumerate(batch["indices"]):
        texts, requests = data.source.texts(index), data.source.requests(index)
        assert batch["request_ids"][place] == [request.request_id for request in requests]
        for column in range(shape[1]):
            ids, length = batch["tokens"][place, column].tolist(), int(batch["prefix_lengths"][place, column])
            predicted = batch["need_predict"][place, column].tolist()
            if column >= len(texts):  # an image with fewer texts than the batch's most
                assert length == 0 and not any(predicted) and set(ids) == {tokenizer.pad_id}
                continue
            given, said = (tokenizer.encode(text, 16) for text in (texts[column].prefix, texts[column].target))
            whole = [tokenizer.bos_id, *given, *said, tokenizer.eos_id]
            longest = max(longest, len(whole))
            assert ids == whole + [tokenizer.pad_id] * (len(ids) - len(whole))
            assert length == 1 + len(given)
            assert predicted == [length <= k < len(whole) for k in range(len(ids))]
        for request, prefix in zip(requests, batch["request_prefixes"][place], strict=True):
            assert prefix == [tokenizer.bos_id, *tokenizer.encode(request.prefix, 16)]
    assert shape[2] == longest <= TEXT.max_tokens + 2


def test_questions_are_chosen_in_training_with_their_prefix() -> None:
    data, everything = items(VQA, texts=2), items(VQA, texts=None)
    seen = [data[number] for number in range(24)]
    whole = {item["index"]: item for item in (everything[number] for number in range(12))}
    for item in seen:
        assert len(item["tokens"]) == 2 and item["request_ids"] == item["request_prefixes"] == []
        known = whole[item["index"]]
        pairs = list(zip(known["tokens"], known["prefix_lengths"], strict=True))
        assert all(pair in pairs for pair in zip(item["tokens"], item["prefix_lengths"], strict=True))
        assert min(item["prefix_lengths"]) > 3
    assert len({str(item["tokens"]) for item in seen}) > 12  # the second epoch asks other things


def test_questions_and_captions_share_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    captions, questions = (open_task("scenes", "val", 3, task) for task in (CAPTION, VQA))
    for source in (captions, questions):
        decoded_split(source, 16)
    assert len(list((tmp_path / "images").glob("*.npy"))) == 1
    made, loaded = (encoded_split(questions, tokenizer_for(TEXT, questions), 16) for _ in range(2))
    assert loaded.prefixes_of(1) == made.prefixes_of(1) and min(loaded.prefixes_of(1)) > 2
    assert loaded.of(1) == made.of(1)


def test_the_tokenizer_learns_questions_and_answers() -> None:
    captions, questions = (tokenizer_for(TEXT, open_task("scenes", "train", 40, task)) for task in (CAPTION, VQA))
    assert {"how", "many", "yes", "?"} <= set(questions.tokens())
    assert not {"how", "?"} & set(captions.tokens())
    words = tokenizer_for(TEXT, open_task("scenes", "train", 40, READ))
    assert words.vocab_size < 120 and words.decode(words.encode("zoo")) == "zoo"
