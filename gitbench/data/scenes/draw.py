"""Draw a scene at any size: four-fold oversampling with Pillow, then a box filter. About half a millisecond at 64 px.

The decoration (tone of a colour, blades of grass, clouds) comes from a stream of the scene's key. Pillow decides the
pixels; a few are in the data set's fingerprint, so that a Pillow that draws differently is noticed.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from gitbench.data.random_stream import Stream
from gitbench.data.scenes.backdrops import BACKDROPS, Colour, tone
from gitbench.data.scenes.layout import HOLLOW, Placed, Scene

Points = tuple[tuple[float, float], ...]
OVERSAMPLE = 4
PAINT: dict[str | None, Colour] = {
    "red": (214, 38, 40), "orange": (246, 134, 28), "yellow": (250, 216, 48), "green": (40, 136, 58),
    "blue": (44, 92, 212), "purple": (128, 62, 172), "pink": (246, 142, 186), "black": (24, 24, 28),
    "white": (246, 246, 246), "ruby": (214, 38, 40), "jade": (40, 136, 58), "teal": (32, 178, 170),
    "brown": (122, 74, 36),
}  # fmt: skip


def _heart() -> Points:
    points = []
    for step in range(36):
        turn = 2 * math.pi * step / 36
        x = 16 * math.sin(turn) ** 3
        y = 13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)
        points.append((x / 16.5, -(y + 2.5) / 16.0))
    return tuple(points)


_TURNS = [(-math.pi / 2 + k * math.pi / 5, 1.08 if k % 2 == 0 else 0.46) for k in range(10)]  # angle, radius of a star
_A = 0.36  # half the width of a bar of the cross
POLYGONS: dict[str, Points] = {
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "triangle": ((0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)),
    "cross": (
        (-_A, -1), (_A, -1), (_A, -_A), (1, -_A), (1, _A), (_A, _A), (_A, 1), (-_A, 1), (-_A, _A), (-1, _A), (-1, -_A),
        (-_A, -_A),
    ),
    "star": tuple((radius * math.cos(turn), radius * math.sin(turn) + 0.06) for turn, radius in _TURNS),
    "heart": _heart(),
    "arrow": ((-1, -0.32), (0.05, -0.32), (0.05, -0.9), (1, 0), (0.05, 0.9), (0.05, 0.32), (-1, 0.32)),
}  # fmt: skip
# A pixel font of our own, so that an image does not depend on the fonts of a machine: capital letters, seven rows each.
LETTER_WIDTH, LETTER_HEIGHT = 5, 7
LETTERS = {
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


def render(scene: Scene, size: int) -> np.ndarray:
    """Draw a scene: uint8 (size, size, 3), RGB."""
    side = size * OVERSAMPLE
    stream = Stream("decoration", *scene.key)
    canvas = Image.new("RGB", (side, side))
    BACKDROPS[scene.graph.background or "gray"](ImageDraw.Draw(canvas), side, stream)
    # what is contained lies on top of its container: larger things first
    for one in sorted(scene.placed, key=lambda one: -one.radius if one.item.shape != "sign" else 0.0):
        paint, radius = tone(stream, PAINT[one.item.colour], 14), one.radius * side
        if one.item.shape == "sign":
            _draw_sign(canvas, one, paint, side)
            continue
        mask = _mask(one.item.shape, radius, one.angle)
        fill, half = _pattern(one.item.texture, mask.width, radius, paint), mask.width // 2
        for x, y in one.centres:
            left, top = round(x * side) - half, round(y * side) - half
            canvas.paste(fill, (left, top, left + mask.width, top + mask.width), mask)
    return np.asarray(canvas.reduce(OVERSAMPLE))


def _contrast(colour: Colour, amount: float) -> Colour:
    """Return a clearly darker tone of a light colour, or a lighter one of a dark colour."""
    bright = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 125
    goal = 15 if bright else 250
    return tuple(int(value + (goal - value) * amount) for value in colour)  # type: ignore[return-value]


def _mask(shape: str, radius: float, angle: float) -> Image.Image:
    """Return the mask of one shape, centred in a square, in oversampled pixels."""
    half = math.ceil(radius * 1.12) + 1
    mask = Image.new("L", (2 * half, 2 * half))
    draw = ImageDraw.Draw(mask)
    if shape in POLYGONS:
        cos, sin = math.cos(angle) * radius, math.sin(angle) * radius
        draw.polygon([(half + x * cos - y * sin, half + x * sin + y * cos) for x, y in POLYGONS[shape]], fill=255)
        return mask
    draw.ellipse((half - radius, half - radius, half + radius, half + radius), fill=255)
    if shape in HOLLOW:
        inner = radius * 0.62
        draw.ellipse((half - inner, half - inner, half + inner, half + inner), fill=0)
    elif shape == "moon":
        left, bite = half - radius * 0.35, radius * 0.84
        draw.ellipse((left, half - bite, left + 2 * bite, half + bite), fill=0)
    return mask


def _pattern(texture: str | None, side: int, radius: float, paint: Colour) -> Image.Image | Colour:
    """Return a square painted with a texture; of a plain thing its colour."""
    if texture in (None, "plain"):
        return paint
    ink = _contrast(paint, 0.72)
    tile = Image.new("RGB", (side, side), paint)
    draw = ImageDraw.Draw(tile)
    step = max(radius * 0.5, 9.0)  # in oversampled pixels: never finer than what survives the reduction
    if texture == "striped":
        for k in range(int(2 * side / step) + 1):
            draw.line((k * step, -1, k * step - side, side), fill=ink, width=max(1, round(step * 0.36)))
    elif texture == "wavy":
        for row in range(-1, int(side / step) + 2):
            points = [(x, (row + 0.3 * math.sin(2 * math.pi * x / (2.2 * step))) * step) for x in range(0, side + 4, 4)]
            draw.line(points, fill=ink, width=max(1, round(step * 0.34)))
    elif texture in ("dotted", "flecked"):
        dot = step * 0.27
        for row in range(int(side / step) + 2):
            for column in range(int(side / step) + 2):
                x, y = (column + 0.5 * (row % 2)) * step, row * step
                draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=ink)
    else:
        for row in range(int(side / step) + 1):
            for column in range(row % 2, int(side / step) + 1, 2):
                draw.rectangle((column * step, row * step, (column + 1) * step - 1, (row + 1) * step - 1), fill=ink)
    return tile


def _draw_sign(canvas: Image.Image, one: Placed, paint: Colour, side: int) -> None:
    """Draw a board with a thin frame and its word as large as it fits."""
    left, top, right, bottom = (value * side for value in one.box)
    draw = ImageDraw.Draw(canvas)
    ink = _contrast(paint, 0.92)
    draw.rounded_rectangle((left, top, right, bottom), radius=side * 0.025, fill=paint, outline=ink, width=side // 80)
    word = one.item.word or ""
    width = len(word) * (LETTER_WIDTH + 1) - 1  # in font pixels
    pixel = min((right - left) * 0.86 / width, (bottom - top) * 0.72 / LETTER_HEIGHT)
    x0 = (left + right - pixel * width) / 2
    y0 = (top + bottom - pixel * LETTER_HEIGHT) / 2
    for row, first, last in _runs(word):
        left, right = round(x0 + first * pixel), round(x0 + (last + 1) * pixel) - 1
        draw.rectangle((left, round(y0 + row * pixel), right, round(y0 + (row + 1) * pixel) - 1), fill=ink)


@lru_cache(maxsize=64)
def _runs(word: str) -> tuple[tuple[int, int, int], ...]:
    """Return the horizontal runs of ink of a word as (row, first column, last column), in font pixels."""
    return tuple(
        (row, place * (LETTER_WIDTH + 1) + ink.start(), place * (LETTER_WIDTH + 1) + ink.end() - 1)
        for place, letter in enumerate(word)
        for row, bits in enumerate(LETTERS[letter].split())
        for ink in re.finditer("1+", bits)
    )
