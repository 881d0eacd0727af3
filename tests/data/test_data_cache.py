"""What is cached: decoded images and encoded captions; transforms; full disks and damaged files."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers_data import CAPTION, TEXT, TinySource, printed_by
from helpers_errors import failing_disk, refused
from PIL import Image

from gitbench.data import open_source
from gitbench.data.cache import decoded_split, encoded_split
from gitbench.data.image_processor import random_crop, square_processor, stored_size
from gitbench.data.random_stream import Stream
from gitbench.data.scenes.world import Scenes
from gitbench.data.tasks import TaskSource, open_task
from gitbench.data.tokenizer import CaptionTokenizer, tokenizer_for
from gitbench.errors import GitbenchError


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return tokenizer_for(TEXT, open_source("scenes", "train", 24))


def stored(count: int = 5, size: int = 16) -> np.ndarray:
    return decoded_split(open_task("scenes", "val", count, CAPTION), size)


def test_photographs_are_stored_as_the_test_transform_makes_them() -> None:
    images = decoded_split(TaskSource(TinySource(), CAPTION, "tiny"), 20)
    assert images.shape == (2, 20, 20, 3) and images.dtype == np.uint8
    for index in (0, 1):
        assert np.array_equal(images[index], square_processor(20).resized(TinySource().image(index)))


@pytest.mark.parametrize("shape", [(30, 41), (41, 30), (20, 20), (7, 99), (33, 32), (64, 20)])
def test_the_test_transform_is_torchvisions(shape: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = CenterCrop(20)(Resize(20, InterpolationMode.BICUBIC)(Image.fromarray(image)))
    assert np.array_equal(square_processor(20).resized(image), np.asarray(expected))


def test_a_crop_is_cut_before_it_is_resized() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    stream = Stream("crop", 1)
    stream.random = iter([0.5, 0.25, 0.99]).__next__  # area 0.75, then left and top
    side = round(40 * 0.75**0.5)
    left, top = int(0.25 * (40 - side + 1)), int(0.99 * (40 - side + 1))
    cut = Image.fromarray(image[top : top + side, left : left + side])
    expected = np.asarray(cut.resize((24, 24), Image.Resampling.BICUBIC))
    assert np.array_equal(random_crop(image, 24, (0.5, 1.0), stream), expected)


def test_crops_cover_the_area_asked_for() -> None:
    marked = np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((1, 50, 3), dtype=np.uint8)
    cuts = [random_crop(marked, 50, (0.64, 1.0), Stream("crop", number)) for number in range(200)]
    sides = [int(cut.max()) - int(cut.min()) + 1 for cut in cuts]
    assert 39 <= min(sides) <= 42 and max(sides) == 50


def test_what_is_cropped_is_stored_larger() -> None:
    assert [stored_size(224, scale) for scale in (None, (0.8, 1.0), (0.08, 1.0))] == [224, 251, 258]


def test_the_image_cache_is_made_once_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    first = np.array(stored())
    (file,) = (tmp_path / "images").glob("*.npy")
    made = file.stat().st_mtime_ns
    assert np.array_equal(stored(), first) and file.stat().st_mtime_ns == made
    stored(count=6)
    stored(size=17)
    assert len(list((tmp_path / "images").glob("*.npy"))) == 3
    file.write_bytes(file.read_bytes()[:500])  # cut short by a crash of the machine
    assert np.array_equal(stored(), first)
    with pytest.raises(ValueError, match="read-only"):
        stored()[0] = 0


def test_processes_that_start_together_build_one_file(tmp_path: Path) -> None:
    code = (
        "from gitbench.data import CAPTIONS, cache, tasks; import hashlib\n"
        "source = tasks.open_task('scenes', 'test', 60, CAPTIONS)\n"
        "print(hashlib.sha256(cache.decoded_split(source, 32).tobytes()).hexdigest())"
    )
    with ThreadPoolExecutor(3) as pool:
        printed = list(pool.map(lambda _: printed_by(code, GITBENCH_CACHE=str(tmp_path)), range(3)))
    assert len(set(printed)) == 1
    left = [path.name for path in (tmp_path / "images").iterdir() if not path.name.endswith(".lock")]
    assert len(left) == 1 and left[0].endswith(".npy")


def test_a_cache_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: CaptionTokenizer
) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    (tmp_path / "captions").write_text("a file where the folder should be")
    with refused("captions: File exists: set GITBENCH_CACHE"):
        encoded_split(Scenes("scenes", "val", 5), tokenizer, 16)
    monkeypatch.setattr("gitbench.files.os.fsync", failing_disk(errno.ENOSPC))
    with refused("No space left on device: set GITBENCH_CACHE"):
        stored()
    assert not list((tmp_path / "images").glob("*.npy"))


def test_a_fault_of_the_data_is_not_taken_for_one_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))

    class Broken(TinySource):
        def image(self, index: int) -> np.ndarray:
            raise GitbenchError("row 0: the image is unreadable: replace or remove it")

    with refused("row 0"):
        decoded_split(TaskSource(Broken(), CAPTION, "tiny"), 8)
