"""The closed vocabulary of the scenes: what can be in one, and every way to say it.

Generation (`language`) and parsing (`parse`) read the same tables, so that whatever is said can be understood; a phrase
means the same in every world. The first wording of each entry is the usual one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Wordings = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Words:
    """What can be in one world, and how it is said there: name -> wordings. What all worlds share stands below."""

    shapes: Mapping[str, tuple[tuple[str, str], ...]]  # singular and plural
    colours: Mapping[str, Wordings]
    sizes: Mapping[str, Wordings]
    textures: Mapping[str, Wordings]
    with_texture: Mapping[str, str]
    relations: Mapping[str, tuple[Wordings, Wordings]]
    backgrounds: Mapping[str, Wordings]
    openings: Wordings


# name -> (singular, plural) wordings
SHAPES: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "cross": (("cross", "crosses"), ("plus sign", "plus signs")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "heart": (("heart", "hearts"),),
}
SIGN = (("sign", "signs"), ("board", "boards"))
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red",), "orange": ("orange",), "yellow": ("yellow",), "green": ("green",), "blue": ("blue",),
    "purple": ("purple", "violet"), "pink": ("pink",), "black": ("black",), "white": ("white",),
}  # fmt: skip
SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium",),
    "large": ("large", "big"),
}
TEXTURES: dict[str, tuple[str, ...]] = {
    "plain": ("plain",), "striped": ("striped",), "dotted": ("dotted", "spotted"), "checkered": ("checkered",),
}  # fmt: skip
WITH_TEXTURE = {"striped": "with stripes", "dotted": "with dots", "checkered": "with checks"}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
WORDS = (
    "art", "bank", "book", "bus", "cafe", "exit", "farm", "fish", "gym", "help", "hot", "jazz", "king", "lab", "milk",
    "open", "park", "quiz", "sale", "stop", "taxi", "tea", "vote", "zoo",
)  # fmt: skip

# predicate -> wordings, and those of its inverse ("b right of a" says "a left of b")
RELATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "left of": (
        ("to the left of", "left of", "on the left side of"),
        ("to the right of", "right of", "on the right side of"),
    ),
    "above": (("above", "over", "higher than"), ("below", "under", "beneath")),
    "inside": (("inside", "within"), ("around", "surrounding")),
}
PLACES: dict[str, tuple[str, ...]] = {
    "top left": ("in the top left corner", "in the upper left"),
    "top": ("at the top", "near the top edge"),
    "top right": ("in the top right corner", "in the upper right"),
    "left": ("on the left", "near the left edge"),
    "middle": ("in the middle", "in the center"),
    "right": ("on the right", "near the right edge"),
    "bottom left": ("in the bottom left corner", "in the lower left"),
    "bottom": ("at the bottom", "near the bottom edge"),
    "bottom right": ("in the bottom right corner", "in the lower right"),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "gray": ("on a gray background", "on a plain gray background"),
    "paper": ("on grid paper", "on a sheet of grid paper"),
    "grass": ("on the grass", "on green grass", "on a lawn"),
    "sand": ("on the sand", "on a sandy beach"),
    "sky": ("in the sky", "in a cloudy blue sky"),
    "night": ("at night", "in the night sky", "in the dark"),
}
MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "moving to the left", "that moves to the left"),
    "right": ("moving right", "moving to the right", "that moves to the right"),
    "up": ("moving up", "that moves upwards", "rising"),
    "down": ("moving down", "that moves downwards", "falling"),
    "still": ("standing still", "that does not move"),
}
SAYS = ("that says", "reading", "with the word")
OPENINGS = ("a picture of", "a drawing of", "an image of")

SCENES = Words(
    shapes=SHAPES,
    colours=COLOURS,
    sizes=SIZES,
    textures=TEXTURES,
    with_texture=WITH_TEXTURE,
    relations=RELATIONS,
    backgrounds=BACKGROUNDS,
    openings=OPENINGS,
)
# The shifted world: what `SCENES` has is known to a captioner of scenes, and everything else is new to it. Some things
# have another name (orb, loop, ruby, jade, flecked, "west of"), some another look (arrow, moon, teal, brown, wavy).
SHIFTED = Words(
    shapes={
        **{shape: SHAPES[shape] for shape in ("square", "triangle", "star")},
        "orb": (("orb", "orbs"),),
        "loop": (("loop", "loops"),),
        "arrow": (("arrow", "arrows"),),
        "moon": (("moon", "moons"),),
    },
    colours={
        **{colour: COLOURS[colour] for colour in ("yellow", "blue", "pink", "black", "white")},
        "ruby": ("ruby",),
        "jade": ("jade",),
        "teal": ("teal",),
        "brown": ("brown",),
    },
    sizes={"small": ("small", "tiny"), "medium": ("medium",), "large": ("huge", "big")},
    textures={"plain": ("plain",), "striped": ("striped",), "flecked": ("flecked",), "wavy": ("wavy",)},
    with_texture={"striped": "with stripes", "flecked": "with flecks", "wavy": "with waves"},
    relations={
        "left of": (("west of", "to the left of"), ("east of", "to the right of")),
        "above": (("north of", "above"), ("south of", "below")),
        "inside": (("inside", "within"), ("around",)),
    },
    backgrounds={
        **{ground: BACKGROUNDS[ground] for ground in ("grass", "night")},
        "brick": ("on bricks", "on a brick wall"),
        "snow": ("on the snow", "on white snow"),
        "wood": ("on wood", "on a wooden table"),
        "water": ("on the water", "on a lake"),
    },
    openings=("a view of", "a sketch of", "a photo of"),
)
WORLDS = (SCENES, SHIFTED)
