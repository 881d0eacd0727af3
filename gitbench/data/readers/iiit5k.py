"""IIIT5K-Words in its own files (Mishra et al. 2012): `traindata.mat` and `testdata.mat`, with `train/` and `test/`.

A file of MATLAB holds structs with `ImgName` (`train/1009_1.png`) and `GroundTruth`, the word. Where it is missing,
`trainCharBound.mat` says the same words, as `chars`. The set states train and test.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from gitbench.data.items import Loaded, Part, Place, file_parts, split_files
from gitbench.errors import GitbenchError

NEEDS = {"read": "IIIT5K's traindata.mat and testdata.mat with the folders train and test"}
_NAME = re.compile(r"(train|test)(data|(?:data)?CharBound)\.mat")


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    fuller = {split: [min(paths, key=lambda path: "CharBound" in path.name)] for split, paths in _files(place).items()}
    return file_parts(place, fuller, _load)


def _files(place: Place) -> dict[str, list[Path]]:
    return split_files(place, lambda path: named[1] if (named := _NAME.fullmatch(path.name)) else None)


def _load(place: Place, path: Path, split: str) -> Loaded:
    import scipy.io

    field = "chars" if "CharBound" in path.name else "GroundTruth"
    try:
        content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False, chars_as_strings=True)
        (table,) = (value for name, value in content.items() if not name.startswith("__"))
        rows = [(str(row.ImgName), str(getattr(row, field))) for row in np.atleast_1d(table)]
    except Exception as error:  # scipy raises many kinds on files that are not MATLAB's
        fix = f"it needs one table with ImgName and {field}"
        raise GitbenchError(f"{path} is not a file of IIIT5K ({type(error).__name__}: {error}): {fix}") from None
    return Loaded(items=[place.item(name, f"{path}, image {name}", split, captions=(word,)) for name, word in rows])
