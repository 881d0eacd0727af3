"""The published sets on which the paper reports: `--data coco_karpathy:FOLDER` reads a folder as that set and as nothing else.

A set says by which reader and from which files it is read, which rule makes its splits, and how large they are. A folder
without these files is an error; counts that differ from the published ones are said in the notes. Where a rule leaves a split
to us (no val, or a hidden test), `splits` decides as for any data.

The pages of the paper with its rules on data could not be obtained: the rules are the publishers', `paper` is the table with
the paper's scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from gitbench.errors import lookup


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """A published set: where its texts lie, and what is known of them."""

    doc: str
    task: str
    reader: str
    files: str  # what the names of its files match
    needs: str  # the files in words
    rule: str  # of its splits, in words; kept by its files and by `splits`
    counts: Mapping[str, int]  # of the splits whose texts are public, as far as a source could be read
    counted: str = "images"  # or questions, films
    source: str  # of the counts
    paper: str = "Table 1"
    domain: str = ""  # of nocaps: the part that is taken


_NOCAPS = PublishedSet(
    doc="nocaps: images of objects that COCO has not, 10 captions each; for evaluation alone",
    task="caption",
    reader="coco",
    files=r"nocaps_val_\d+_captions\.json",
    needs="nocaps_val_4500_captions.json",
    rule="val, whose captions are public, is evaluated; those of test are hidden",
    counts={"val": 4500},
    source="nocaps.org, download",
)
_VIZWIZ = {"files": r"(train|val|test)\.json", "needs": "annotations/train.json and annotations/val.json"}
SETS = {
    "coco_karpathy": PublishedSet(
        doc="COCO in Karpathy's splits, 5 captions an image",
        task="caption",
        reader="coco",
        files=r"dataset_coco\.json",
        needs="dataset_coco.json beside train2014/ and val2014/",
        rule="restval is train",
        counts={"train": 113_287, "val": 5000, "test": 5000},
        source="TensorFlow Datasets, coco_captions (train with restval)",
        paper="Table 1 has COCO's public server; Karpathy's test is in the README of the released models",
    ),
    "flickr30k": PublishedSet(
        doc="Flickr30k in Karpathy's splits, 5 captions an image",
        task="caption",
        reader="coco",
        files=r"dataset_flickr30k\.json",
        needs="dataset_flickr30k.json beside flickr30k-images/",
        rule="as stated",
        counts={"train": 29_000, "val": 1014, "test": 1000},
        source="AnyModal/flickr30k on the hub",
        paper="second-hand: CogVLM, Table 1",
    ),
    "nocaps": _NOCAPS,
    **{
        f"nocaps_{name}": dataclasses.replace(
            _NOCAPS, doc=f"nocaps, its {domain} images alone", counts={"val": count}, domain=domain
        )
        for name, domain, count in (("in", "in-domain", 648), ("near", "near-domain", 2938), ("out", "out-domain", 914))
    },
    "textcaps": PublishedSet(
        doc="TextCaps: images with text in them, 5 captions each",
        task="caption",
        reader="textcaps",
        files=r"TextCaps_.*\.json",
        needs="TextCaps_0.1_train.json and TextCaps_0.1_val.json",
        rule="the captions of test are hidden: val is evaluated",
        counts={"train": 21_953, "val": 3166},
        source="AKCIT/textcaps on the hub",
    ),
    "vizwiz_captions": PublishedSet(
        doc="VizWiz-Captions: photographs by people who are blind, 5 captions each",
        task="caption",
        reader="coco",
        rule="captions marked as rejected or precanned are left out; those of test are hidden: val is evaluated",
        counts={"train": 23_431, "val": 7750},
        source="vizwiz.org, image captioning",
        **_VIZWIZ,
    ),
    "vqav2": PublishedSet(
        doc="VQAv2: questions about COCO, 10 answers each",
        task="vqa",
        reader="questions",
        files=r"v2_OpenEnded_mscoco_.*_questions\.json",
        needs="v2_OpenEnded_mscoco_train2014_questions.json and the like",
        rule="the answers of test2015 are hidden: val2014 is evaluated",
        counts={"train": 443_757, "val": 214_354},
        counted="questions",
        source="visualqa.org, download",
        paper="the README of the released models (test-dev)",
    ),
    "textvqa": PublishedSet(
        doc="TextVQA: questions about text in images, 10 answers each",
        task="vqa",
        reader="questions",
        files=r"TextVQA_.*\.json",
        needs="TextVQA_0.5.1_train.json and TextVQA_0.5.1_val.json",
        rule="the answers of test are hidden: val is evaluated",
        counts={"train": 34_602, "val": 5000},
        counted="questions",
        source="xinke-wang/Awesome-Text-VQA (both together: 39,602)",
        paper="the README of the released models (val)",
    ),
    "vizwiz_vqa": PublishedSet(
        doc="VizWiz-VQA: questions by people who are blind, 10 answers each",
        task="vqa",
        reader="questions",
        rule="the answers of test are hidden: val is evaluated",
        counts={"val": 4319},
        counted="questions",
        source="lmms-lab/VizWiz-VQA on the hub",
        **_VIZWIZ,
    ),
    "stvqa": PublishedSet(
        doc="ST-VQA: questions about text in images of six other sets",
        task="vqa",
        reader="questions",
        files=r"(train|test)_task_3\.json",
        needs="train_task_3.json",
        rule="task 3, of free answers; no val is stated and the answers of test are hidden: train is divided",
        counts={"train": 26_074},
        counted="questions",
        source="google-research/big_vision, datasets/stvqa",
    ),
    "ocrvqa": PublishedSet(
        doc="OCR-VQA: questions about covers of books",
        task="vqa",
        reader="ocrvqa",
        files=r"dataset\.json",
        needs="dataset.json beside images/",
        rule="as stated: 1 is train, 2 val, 3 test",
        counts={"test": 20_797},
        source="xinke-wang/Awesome-Text-VQA (train and val together: 186,775)",
    ),
    "msrvtt": PublishedSet(
        doc="MSR-VTT: films of 10 to 30 seconds, 20 captions each",
        task="video",
        reader="msrvtt",
        files=r".*\.json",
        needs="train_val_videodatainfo.json and test_videodatainfo.json beside the films",
        rule="as stated; validate is val",
        counts={"train": 6513, "val": 497, "test": 2990},
        counted="films",
        source="danieljf24/hybrid_space, dataset",
    ),
    "msvd": PublishedSet(
        doc="MSVD: films of about 10 seconds, about 40 captions each",
        task="video",
        reader="msvd",
        files=r".*\.txt",
        needs="AllVideoDescriptions.txt beside YouTubeClips/, with train_list.txt, ... or youtube_mapping.txt",
        rule="by the lists, else by the clips' numbers",
        counts={"train": 1200, "val": 100, "test": 670},
        counted="films",
        source="second-hand: a note on friedrichor/MSVD on the hub",
    ),
    "vatex": PublishedSet(
        doc="VATEX: films of 10 seconds, 10 English captions each",
        task="video",
        reader="vatex",
        files=r"vatex_.*\.json",
        needs="vatex_training_v1.0.json, vatex_validation_v1.0.json and vatex_public_test_english_v1.1.json",
        rule="test is the public test; the captions of the private one are hidden",
        counts={"train": 25_991},
        counted="films",
        source="danieljf24/hybrid_space, dataset",
    ),
}


def published_set(name: str) -> PublishedSet:
    """Return a published set by name; an unknown name raises an error that offers the nearest one."""
    return lookup("published data set", name, SETS)
