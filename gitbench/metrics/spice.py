"""SPICE (Anderson et al. 2016) and SPIDEr, where its parser is installed; a stated absence elsewhere.

SPIDEr (Liu et al. 2017) is the mean of SPICE and CIDEr of each image, then the mean over images where SPICE is defined.

`pycocoevalcap` ships SPICE without Stanford CoreNLP 3.6.0, which its constructor downloads (384 MB). Nothing is
downloaded here. The jar is run by ourselves, with temporary files where temporary files belong, and with the packages
opened that its serialisation library needs on Java 16 and newer. SPICE asks for up to 8 GB of memory.

Known gap: no machine of the test suite has CoreNLP; the tests run this module against a stand-in for the jar.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.errors import GitbenchError
from gitbench.files import load_json, write_json
from gitbench.metrics.base import SCALE, Scores
from gitbench.metrics.java import ended, java_command, java_environment, last_line
from gitbench.metrics.tokenize import library_folder

PARSER = "corenlp-3.6.0"
_OPENED = ("java.lang", "java.math", "java.util", "java.util.concurrent", "java.net", "java.text")


def missing_files() -> str | None:
    """Say what SPICE lacks and how to get it; None where it is complete."""
    folder = library_folder() / "spice"
    parts = [folder / "spice-1.0.jar", *(folder / "lib" / f"stanford-{PARSER}{end}.jar" for end in ("", "-models"))]
    absent = [part.name for part in parts if not part.is_file()]
    if not absent:
        return None
    return (
        f"SPICE's files are not installed ({', '.join(absent)}): "
        "run `python -m pycocoevalcap.spice.get_stanford_models`, a download of 384 MB"
    )


def add_spice(scores: Scores, predictions: Sequence[str], references: Sequence[Sequence[str]], timeout: float) -> None:
    """Add SPICE's F from tokenized captions, NaN for an image where SPICE leaves it undefined; and SPIDEr, after CIDEr.

    Raises GitbenchError if files are missing, or the program fails or needs more than `timeout` seconds.
    """
    reason = missing_files()
    if reason:
        raise GitbenchError(reason)
    jar = library_folder() / "spice" / "spice-1.0.jar"
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
    with tempfile.TemporaryDirectory(prefix="gitbench-spice-") as name:
        given, made = Path(name) / "captions.json", Path(name) / "scores.json"
        rows = zip(predictions, references, strict=True)
        write_json(given, [{"image_id": i, "test": text, "refs": list(refs)} for i, (text, refs) in enumerate(rows)])
        command = java_command(*opened, "-Xmx8G", "-jar", jar, given.name, "-out", made.name, "-subset", "-silent")
        try:
            # in a session of its own: Ctrl-C is for us, and must not turn into an absent score
            done = subprocess.run(
                command,
                cwd=name,
                env=java_environment(),
                capture_output=True,
                timeout=timeout,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise GitbenchError(
                f"SPICE did not finish within {timeout:g} s: free the machine or allow it more time"
            ) from None
        if done.returncode:
            text = f"SPICE, which takes up to 8 GB of memory, failed ({last_line(done.stderr)})"
            raise ended(text, done.returncode, done.stderr)
        add_answer(scores, load_json(made))


def add_answer(scores: Scores, answer: Any) -> None:
    """Add what `add_spice` does from the program's answer: a list of {"image_id": place, "scores": {"All": {"f": F}}}."""
    try:
        found = {item["image_id"]: item["scores"]["All"]["f"] for item in answer}
        values = np.array([found[place] for place in range(len(scores.ids))], dtype=float)
    except (KeyError, TypeError) as error:
        raise GitbenchError(f"SPICE's answer is damaged ({error!r}): score again") from error
    scores.add_mean("SPICE", values, "SPICE-1.0", parser=PARSER)
    if not np.isnan(values).all():
        spider = (values + scores.columns["CIDEr"] / SCALE) / 2
        scores.add_mean("SPIDEr", spider, "SPIDEr", of="SPICE-1.0+CIDEr-D", parser=PARSER)
