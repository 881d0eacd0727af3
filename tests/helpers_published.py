"""Published sets for tests, a few items each, in exactly the layouts in which they are downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers_sets import film, put, said, write


def coco(folder: Path, year: int, counts: tuple[int, int] = (20, 3)) -> Path:
    """Write COCO as it is downloaded: images of train and val are numbered from 1 on."""
    start = 1
    for split, count in zip(("train", "val"), counts, strict=True):
        stem = f"COCO_{split}{year}_" if year == 2014 else ""
        images = {number: f"{stem}{number:012d}.jpg" for number in range(start, start + count)}
        put(folder, {f"{split}{year}/{name}": number for number, name in images.items()})
        write(folder, f"annotations/captions_{split}{year}.json", said(images, captions=5))
        boxes = {"images": said(images)["images"], "annotations": [{"id": 1, "image_id": start, "bbox": [1, 2, 3, 4]}]}
        for kind in ("instances", "person_keypoints"):
            write(folder, f"annotations/{kind}_{split}{year}.json", boxes)
        start += count
    return folder


def karpathy(folder: Path, name: str = "dataset_coco.json", images: str = "") -> Path:
    """Write Karpathy's file: of COCO with `filepath`, of the Flickr sets with bare names; 6 train, 2 restval, 2 val, 2 test."""
    listed = []
    for number, split in enumerate(("train",) * 6 + ("restval",) * 2 + ("val",) * 2 + ("test",) * 2):
        place = "train2014" if split == "train" else "val2014"
        file = f"{number % 7}.jpg" if not images else f"{number}.jpg"  # of COCO some names are in both folders
        raw = [{"tokens": ["a"], "raw": f"Caption {k} of {number}.", "imgid": number, "sentid": k} for k in range(5)]
        entry: dict[str, Any] = {"filename": file, "imgid": number, "split": split, "sentences": raw, "sentids": [0]}
        if not images:
            entry |= {"filepath": place, "cocoid": 500 + number}
        listed.append(entry)
        put(folder, {f"{images or place}/{file}": number})
    write(folder, name, {"images": listed, "dataset": "x"})
    return folder


def nocaps(folder: Path) -> Path:
    """Write nocaps: six images of val with captions and a domain each, and the image infos of both splits."""
    images = [{"id": k, "file_name": f"{k:016x}.jpg", "open_images_id": f"{k:016x}", "coco_url": "https://x",
               "domain": ("in-domain", "near-domain", "out-domain")[k % 3]} for k in range(6)]  # fmt: skip
    notes = [{"id": 10 * k + j, "image_id": k, "caption": f"caption {j} of {k}"} for k in range(6) for j in range(10)]
    put(folder, {f"images/{image['file_name']}": number for number, image in enumerate(images)})
    write(folder, "nocaps_val_4500_captions.json", {"images": images, "annotations": notes})
    bare = [{name: value for name, value in image.items() if name != "domain"} for image in images]
    write(folder, "nocaps_val_image_info.json", {"images": bare})
    hidden = [{"id": 7, "file_name": "7.jpg", "open_images_id": "7"}]
    write(folder, "nocaps_test_image_info.json", {"images": hidden})
    return folder


MSRVTT_SPLITS = ("train",) * 6 + ("validate",) * 2 + ("test",) * 2


def msrvtt(folder: Path, joined: bool = False) -> Path:
    """Write ten films, three captions each: of train and validate in one file and of test in another, or all in one."""
    films = [{"category": 9, "url": "https://x", "video_id": f"video{k}", "start time": 1.0, "end time": 9.0,
              "split": split, "id": k} for k, split in enumerate(MSRVTT_SPLITS)]  # fmt: skip
    sentences = [{"caption": f"caption {j} of {k}", "video_id": f"video{k}", "sen_id": 3 * k + j}
                 for j in range(3) for k in range(10)]  # fmt: skip
    for k, split in enumerate(MSRVTT_SPLITS):
        film(folder / ("TestVideo" if split == "test" else "TrainValVideo") / f"video{k}.avi", 1 + k)

    def content(names: set[str]) -> dict[str, Any]:
        chosen = [each for each in films if each["split"] in names]
        known = {each["video_id"] for each in chosen}
        return {"info": {}, "videos": chosen, "sentences": [each for each in sentences if each["video_id"] in known]}

    if joined:
        write(folder, "MSRVTT_data.json", content(set(MSRVTT_SPLITS)))
    else:
        write(folder, "annotations/train_val_videodatainfo.json", content({"train", "validate"}))
        write(folder, "annotations/test_videodatainfo.json", content({"test"}))
    return folder


CLIPS = [f"a-B_{k}xYz_{k}_{k + 9}" for k in range(14)]  # names as of YouTube, with the seconds of the clip


def msvd(folder: Path, numbered: bool = False) -> Path:
    """Write 14 clips, two captions each; films are named after clips, or numbered."""
    lines = [f"{clip} A man is {verb}." for verb in ("slicing bread", "cooking") for clip in CLIPS]
    folder.mkdir(exist_ok=True)
    (folder / "AllVideoDescriptions.txt").write_text("\n".join(["# Descriptions of clips", "#", "", *lines]) + "\n")
    for number, clip in enumerate(CLIPS):
        film(folder / "YouTubeClips" / f"{f'vid{number + 1}' if numbered else clip}.avi", 1 + number % 12)
    return folder


def lists(folder: Path, test: tuple[int, int] = (12, 14)) -> Path:
    for name, (start, end) in {"train": (0, 10), "val": (10, 12), "test": test}.items():
        (folder / f"{name}_list.txt").write_text("\n".join(CLIPS[start:end]) + "\n")
    return folder


def books(folder: Path, **more: Any) -> Path:
    """Write ten books, two questions each; six of train, two of val, two of test."""
    content = {
        f"{number:010d}": {
            "imageURL": f"http://images.example/{number}.jpg",
            "questions": [f"Who wrote book {number}?", "What is the title?"],
            "answers": ["A. Nonymous", f"Book {number}"],
            "title": f"Book {number}",
            "authorName": "A. Nonymous",
            "genre": "Travel",
            "split": 1 if number < 6 else 2 if number < 8 else 3,
        }
        | (more if number == 9 else {})
        for number in range(10)
    }
    put(folder, {f"images/{name}.jpg": number for number, name in enumerate(content)})
    write(folder, "dataset.json", content)
    return folder


def ten(*words: str) -> list[dict[str, Any]]:
    """Return the answers of ten annotators."""
    return [{"answer": words[k % len(words)], "answer_confidence": "yes", "answer_id": k + 1} for k in range(10)]


def vqa_v2(folder: Path, place: str) -> Path:
    """Write VQAv2 as it is downloaded: 12 images of train, 3 of val, 2 of test, two questions each."""
    start = 1
    for split, count in (("train2014", 12), ("val2014", 3), ("test2015", 2)):
        numbers = range(start, start + count)
        put(folder, {f"{split}/COCO_{split}_{number:012d}.jpg": number for number in numbers})
        asked = [{"image_id": number, "question": f"What {k} of {number}?", "question_id": 1000 * number + k}
                 for number in numbers for k in (0, 1)]  # fmt: skip
        notes = [{"question_id": item["question_id"], "image_id": item["image_id"], "question_type": "what",
                  "answer_type": "other", "multiple_choice_answer": "no", "answers": ten("yes", "no", "yes")}
                 for item in reversed(asked)]  # fmt: skip
        head = {"info": {}, "license": {}, "data_subtype": split, "data_type": "mscoco"}
        write(folder, f"{place}v2_OpenEnded_mscoco_{split}_questions.json", {**head, "questions": asked})
        if split != "test2015":
            write(folder, f"{place}v2_mscoco_{split}_annotations.json", {**head, "annotations": notes})
            write(folder, f"{place}v2_mscoco_{split}_complementary_pairs.json", [[1000, 1001]])
        else:
            write(folder, f"{place}v2_OpenEnded_mscoco_test-dev2015_questions.json", {**head, "questions": asked[:2]})
        start += count
    return folder


def st_vqa(folder: Path, tasks: tuple[int, ...] = (3,)) -> Path:
    """Write ST-VQA: 12 images of train with answers, 2 of test without; for each of some tasks."""
    for task in tasks:
        for split, numbers in (("train", range(12)), ("test", range(20, 22))):
            rows = []
            for number in numbers:
                file, images = f"imageNet/n0{number}.jpg", "train_images" if split == "train" else "test_task3_images"
                put(folder, {f"{images}/{file}": number})
                row = {"question": f"Which text {number}?", "set_name": split, "image_classes": [], "dataset": "imageNet",
                       "file_path": file, "file_name": f"n0{number}.jpg", "question_id": 70000 + number}  # fmt: skip
                rows.append(row if split == "test" else {**row, "answers": ["Café 7", "cafe"]})
            write(folder, f"{split}_task_{task}.json", {"task_name": f"task {task}", "data": rows})
    return folder


def textcaps(folder: Path, repeated: bool = True) -> Path:
    """Write 12 images of train, 3 of val, 2 of test, five rows each; `repeated`: every row has all captions too."""
    for start, split, count in ((0, "train", 12), (20, "val", 3), (30, "test", 2)):
        rows, place = [], "test_images" if split == "test" else "train_images"
        for number in range(start, start + count):
            put(folder, {f"{place}/{number:016x}.jpg": number})
            said = [f"Sign {k} of {number}." for k in range(5)]
            for k in range(5 if split != "test" else 1):
                row = {"image_id": f"{number:016x}", "image_name": f"{number:016x}", "image_classes": ["Sign"],
                       "image_path": f"{split}/{number:016x}.jpg", "set_name": split, "caption_id": 10 * number + k}  # fmt: skip
                told = {"caption_str": said[k], "caption_tokens": [], "reference_tokens": []}
                every = {"reference_strs": said} if repeated else {}
                rows.append(row if split == "test" else {**row, **told, **every})
        rows = rows[::2] + rows[1::2]  # rows of one image are not neighbours
        head = {"dataset_type": split, "dataset_name": "textcaps", "dataset_version": "0.1"}
        write(folder, f"TextCaps_0.1_{split}.json", {**head, "data": rows})
    return folder


VATEX_NAMES = {"train": "training_v1.0", "val": "validation_v1.0", "test": "public_test_english_v1.1"}


def vatex(folder: Path) -> Path:
    """Write six films of train, two of val and two of the public test; those of the private one have no captions."""
    start = 0
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        rows = []
        for k in range(start, start + count):
            film(folder / "videos" / f"-x_Y{k}_000010_000020.avi", 1 + k)
            said = [f"Caption {j} of {k}." for j in range(10)]
            row = {"videoID": f"-x_Y{k}_000010_000020", "enCap": said}
            rows.append(row if split == "test" else {**row, "chCap": ["一个人"] * 10})
        write(folder, f"vatex_{VATEX_NAMES[split]}.json", rows)
        start += count
    write(folder, "vatex_private_test_without_annotations.json", [{"videoID": "z_000001_000011"}])
    return folder
