"""MSR-VTT in its own files (Xu et al. 2016): films with twenty captions each.

`train_val_videodatainfo.json` and `test_videodatainfo.json`, or one file of both (`videodatainfo_2017.json`, `MSRVTT_data.json`):
{"videos": [{video_id, split, ...}], "sentences": [{video_id, caption}]}. A film is `VIDEO_ID.mp4`, anywhere below the folder.
Of a test set with hidden captions, `test_videodatainfo_nosen.json`, the captions may lie beside it, without `_nosen`.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from gitbench.data.items import Loaded, Part, Place, read_texts_file, split_files, taken_for

NEEDS = {"video": "films with MSR-VTT's train_val_videodatainfo.json and test_videodatainfo.json"}
_NAME = re.compile(r"\w*videodatainfo\w*\.json|MSR-?VTT_data\.json", re.IGNORECASE)
_HIDDEN = "_nosen"  # in the name of a file without sentences


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    return [Part(files=(path,), load=partial(_load, place, path), images=True) for path in _files(place)]


def _files(place: Place) -> list[Path]:
    found = split_files(place, lambda path: "" if _NAME.fullmatch(path.name) else None).get("", [])
    with_captions = {path: path.with_name(path.name.replace(_HIDDEN, "")) for path in found}
    return [path for path, other in with_captions.items() if other == path or other not in found]


def _load(place: Place, path: Path) -> Loaded:
    content = read_texts_file(path)
    needs = "'videos' of {video_id, split} and 'sentences' of {video_id, caption}"
    with taken_for(path, "a file of MSR-VTT", needs):
        captions: dict[str, list[object]] = {}
        for sentence in () if _HIDDEN in path.name else content["sentences"]:
            captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
        films = [(film["video_id"], film["split"]) for film in content["videos"]]
        return Loaded(
            items=[
                place.item(name, f"{path}, film {name}", split, captions=tuple(captions.get(name, ())))
                for name, split in films
            ]
        )
