"""The Penn Treebank tokenizer of the COCO caption evaluation, contained.

Published caption scores are computed on captions cut by Stanford's PTBTokenizer 3.4.1 with punctuation removed. The
jar comes from `pycocoevalcap`; the Python around it is ours, because upstream's writes temporary files beside its own
source (a read-only installation fails) and, for a caption holding a carriage return or a Unicode line separator,
silently moves every later caption to the wrong image.

Equal to `pycocoevalcap.tokenizer.ptbtokenizer.PTBTokenizer` on captions without such separators (tested). The
tokenizer may look at the first word of the *next* line to decide whether a full stop ends an abbreviation, so
references and predictions go through it apart and in the order of the images, as upstream does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gitbench.errors import GitbenchError
from gitbench.metrics.java import java_command, java_environment, last_line

TOKENIZER = "ptb-stanford-3.4.1"

# What the jar takes for a line end (\n \v \f \r U+2028 U+2029, found by trying all of U+0001..U+FFFF) or Python does.
_LINE_SEPARATORS = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")

# The tokens that the COCO evaluation drops.
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def library_folder() -> Path:
    """Return the folder of `pycocoevalcap`, which carries the jars. Raises GitbenchError if it is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise GitbenchError("pycocoevalcap is not installed: run `python -m pip install pycocoevalcap`")
    return Path(next(iter(spec.submodule_search_locations)))


def library_version() -> str:
    """Return "pycocoevalcap-<version>", for signatures."""
    return f"pycocoevalcap-{importlib.metadata.version('pycocoevalcap')}"


def fold_lines(caption: str) -> str:
    """Turn every line separator of a caption into a space, so that one caption stays one line."""
    return _LINE_SEPARATORS.sub(" ", caption)


def tokenize(captions: Sequence[str], timeout: float = 600) -> list[str]:
    """Tokenize captions: lower case, tokens apart by single spaces, punctuation dropped; order and number are kept.

    An empty caption gives "". Raises GitbenchError if there is no Java, if it fails or needs more than `timeout`
    seconds, and if it ever answers with another number of lines than it was given.
    """
    if not captions:
        return []
    jar = library_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    if not jar.is_file():
        raise GitbenchError(f"{jar} is missing: run `python -m pip install --force-reinstall pycocoevalcap`")
    command = java_command("-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
    text = "\n".join(map(fold_lines, captions)).encode("utf-8", "replace")  # a lone surrogate becomes "?"
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, env=java_environment(), timeout=timeout, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise GitbenchError(
            f"the caption tokenizer took longer than {timeout:g} s: free the machine or allow it more time"
        ) from None
    except OSError as error:
        raise GitbenchError(f"Java cannot be started ({error}): run `gitbench doctor`") from error
    if done.returncode:
        raise GitbenchError(f"the caption tokenizer failed ({last_line(done.stderr)}): run `gitbench doctor`")
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    if len(lines) != len(captions):
        raise GitbenchError(
            f"the caption tokenizer made {len(lines)} lines of {len(captions)} captions, so no score can be trusted: "
            "please report the captions as a bug of gitbench"
        )
    return [" ".join(word for word in line.rstrip().split(" ") if word not in _PUNCTUATION) for line in lines]
