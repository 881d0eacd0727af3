"""What lies behind the things of a scene: each background fills the canvas."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import ImageDraw

from gitbench.data.random_stream import Stream

Colour = tuple[int, int, int]


def tone(stream: Stream, colour: Colour, spread: int) -> Colour:
    """Vary a colour a little, as light and paint do."""
    shift = stream.uniform(-spread, spread)
    return tuple(int(min(255, max(0, value + shift + stream.uniform(-spread / 2, spread / 2)))) for value in colour)  # type: ignore[return-value]


def _fade(draw: ImageDraw.ImageDraw, side: int, top: Colour, bottom: Colour) -> None:
    bands = 24
    for band in range(bands):
        share = band / (bands - 1)
        tone = tuple(int(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        draw.rectangle((0, band * side // bands, side, (band + 1) * side // bands), fill=tone)


def _gray(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    light = int(stream.uniform(138, 172))
    draw.rectangle((0, 0, side, side), fill=(light, light, light + 2))


def _paper(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    draw.rectangle((0, 0, side, side), fill=tone(stream, (238, 238, 232), 8))
    step, start = side / 9, stream.uniform(0, side / 9)
    for k in range(10):
        at = start + k * step
        draw.line((at, 0, at, side), fill=(176, 200, 226), width=max(1, side // 110))
        draw.line((0, at, side, at), fill=(176, 200, 226), width=max(1, side // 110))


def _grass(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    base = tone(stream, (160, 204, 120), 10)
    draw.rectangle((0, 0, side, side), fill=base)
    dark = tuple(int(value * 0.8) for value in base)
    for _ in range(48):
        x, y, lean = stream.uniform(0, side), stream.uniform(0, side), stream.uniform(-0.02, 0.02) * side
        draw.line((x, y, x + lean, y - side * 0.05), fill=dark, width=max(1, side // 100))


def _sand(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    base = tone(stream, (226, 204, 158), 8)
    draw.rectangle((0, 0, side, side), fill=base)
    dark = tuple(int(value * 0.86) for value in base)
    for _ in range(60):
        x, y = stream.uniform(0, side), stream.uniform(0, side)
        draw.rectangle((x, y, x + side / 70, y + side / 70), fill=dark)


def _sky(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    _fade(draw, side, tone(stream, (128, 184, 236), 10), (206, 230, 248))
    for _ in range(2):
        x, y = stream.uniform(0.1, 0.9) * side, stream.uniform(0.05, 0.9) * side
        for dx, r in ((-0.09, 0.05), (0.0, 0.075), (0.09, 0.05)):
            left, right, half = x + (dx - r) * side, x + (dx + r) * side, r * 0.7 * side
            draw.ellipse((left, y - half, right, y + half), fill=(236, 243, 250))


def _night(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    _fade(draw, side, tone(stream, (16, 18, 46), 6), (44, 46, 86))
    for _ in range(26):
        x, y, r = stream.uniform(0, side), stream.uniform(0, side), side * stream.uniform(0.004, 0.009)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(226, 226, 200))


def _brick(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    draw.rectangle((0, 0, side, side), fill=(206, 190, 176))  # mortar
    height, width, joint = side / 10, side / 4.5, side / 90
    for row in range(11):
        for column in range(-1, 6):
            x, y = (column + 0.5 * (row % 2)) * width, row * height
            draw.rectangle(
                (x + joint, y + joint, x + width - joint, y + height - joint), fill=tone(stream, (178, 110, 88), 14)
            )


def _snow(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    _fade(draw, side, tone(stream, (226, 234, 244), 6), (248, 250, 252))
    for _ in range(40):
        x, y, r = stream.uniform(0, side), stream.uniform(0, side), side * stream.uniform(0.006, 0.014)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(178, 200, 226))


def _wood(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    planks = 5
    for plank in range(planks):
        top, bottom = plank * side / planks, (plank + 1) * side / planks
        base = tone(stream, (206, 164, 112), 12)
        dark = tuple(int(value * 0.84) for value in base)
        draw.rectangle((0, top, side, bottom), fill=base)
        for _ in range(3):
            y = stream.uniform(top + side / 60, bottom - side / 60)
            draw.line((0, y, side, y + stream.uniform(-0.01, 0.01) * side), fill=dark, width=max(1, side // 140))
        draw.line((0, bottom, side, bottom), fill=(120, 86, 52), width=max(1, side // 90))


def _water(draw: ImageDraw.ImageDraw, side: int, stream: Stream) -> None:
    base = tone(stream, (96, 176, 208), 10)
    draw.rectangle((0, 0, side, side), fill=base)
    light = tuple(min(255, int(value * 1.2)) for value in base)
    for row in range(9):
        y, start = (row + 0.5) * side / 9, stream.uniform(0, side)
        points = [
            (x, y + math.sin((x + start) * 14 / side) * side / 60) for x in range(0, side + 1, max(1, side // 64))
        ]
        draw.line(points, fill=light, width=max(1, side // 80))


BACKDROPS: dict[str, Callable[[ImageDraw.ImageDraw, int, Stream], None]] = {
    "gray": _gray, "paper": _paper, "grass": _grass, "sand": _sand, "sky": _sky, "night": _night,
    "brick": _brick, "snow": _snow, "wood": _wood, "water": _water,
}  # fmt: skip
