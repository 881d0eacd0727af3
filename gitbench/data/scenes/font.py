"""A pixel font for the words printed in scenes: capital letters, 5 x 7, one string of seven rows a letter.

Drawn here so that an image does not depend on the fonts of a machine.
"""

from __future__ import annotations

import re
from functools import lru_cache

WIDTH, HEIGHT = 5, 7
_ROWS = {
    "a": "01110 10001 10001 11111 10001 10001 10001",
    "b": "11110 10001 10001 11110 10001 10001 11110",
    "c": "01111 10000 10000 10000 10000 10000 01111",
    "d": "11110 10001 10001 10001 10001 10001 11110",
    "e": "11111 10000 10000 11110 10000 10000 11111",
    "f": "11111 10000 10000 11110 10000 10000 10000",
    "g": "01111 10000 10000 10011 10001 10001 01111",
    "h": "10001 10001 10001 11111 10001 10001 10001",
    "i": "01110 00100 00100 00100 00100 00100 01110",
    "j": "00111 00010 00010 00010 00010 10010 01100",
    "k": "10001 10010 10100 11000 10100 10010 10001",
    "l": "10000 10000 10000 10000 10000 10000 11111",
    "m": "10001 11011 10101 10101 10001 10001 10001",
    "n": "10001 11001 10101 10101 10011 10001 10001",
    "o": "01110 10001 10001 10001 10001 10001 01110",
    "p": "11110 10001 10001 11110 10000 10000 10000",
    "q": "01110 10001 10001 10001 10101 10010 01101",
    "r": "11110 10001 10001 11110 10100 10010 10001",
    "s": "01111 10000 10000 01110 00001 00001 11110",
    "t": "11111 00100 00100 00100 00100 00100 00100",
    "u": "10001 10001 10001 10001 10001 10001 01110",
    "v": "10001 10001 10001 10001 10001 01010 00100",
    "w": "10001 10001 10001 10101 10101 11011 10001",
    "x": "10001 10001 01010 00100 01010 10001 10001",
    "y": "10001 10001 01010 00100 00100 00100 00100",
    "z": "11111 00001 00010 00100 01000 10000 11111",
}


@lru_cache(maxsize=64)
def runs(word: str) -> tuple[tuple[int, int, int], ...]:
    """Return the horizontal runs of ink of a word as (row, first column, last column), in font pixels."""
    return tuple(
        (row, place * (WIDTH + 1) + ink.start(), place * (WIDTH + 1) + ink.end() - 1)
        for place, letter in enumerate(word)
        for row, bits in enumerate(_ROWS[letter].split())
        for ink in re.finditer("1+", bits)
    )


def width_of(word: str) -> int:
    """Return the width of a word in font pixels, letter spacing included."""
    return len(word) * (WIDTH + 1) - 1
