"""What lies behind a dog and before it, and the light on both."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from PIL.ImageColor import getrgb

# fmt: off
# Shapes of size 1 that stand at (0, 0), y up; a third entry is a colour of its own.
SHAPES = {
    "disc": [("ellipse", (-1, -0.7, 1, 0.7))],
    "rug": [("ellipse", (-1, -0.12, 1, 0.16))],
    "sun": [("ellipse", (-1, -1, 1, 1))],
    "blob": [("ellipse", (x - w, -0.36, x + w, 1.5 * w - 0.17))
             for x, w in ((-0.5, 0.35), (0, 0.5), (0.5, 0.38))],
    "fir": [("polygon", (-w, y, w, y, 0, y + 0.6))
            for w, y in ((0.4, 0), (0.31, 0.35), (0.22, 0.7))],
    "trunk": [("polygon", (-1, 0, 1, 0, 0.6, 40, -0.6, 40))],
    "blade": [("polygon", (-0.05, 0, 0.05, 0, 0.3, 1))],
    "house": [("rectangle", (-0.5, 0, 0.5, 1.3))]
    + [("rectangle", (x, y, x + 0.2, y + 0.18), "#607086")
       for x in (-0.33, 0.13) for y in (0.3, 0.62, 0.94)],
    "picture": [("rectangle", (-0.5, -0.5, 0.5, 0.5), "#f8f4ec"),
                ("rectangle", (-0.42, -0.42, 0.42, 0.42))],
    "band": [("rectangle", (-999, 0, 999, 1))],
    "fence": [("rectangle", (-99, 0.6, 99, 0.72))]
    + [("rectangle", (x, -0.15, x + 0.13, 1)) for x in range(-20, 20)],
}
# fmt: on
# Scenes: colours of the sky (top, low) and of the ground (far, near), then what stands
# there: shape, zone, how many at most, share of the photo's short side, colour.
SCENES = {
    "meadow": """#78b9e6 #d7ebf0 #96be5a #58913c  blob sky 5 .12 #fcfcfc
        blob edge 6 .25 #76a858  blade ground 90 .04 #467d30
        disc ground 25 .01 #fae15a""",
    "beach": """#6ebee1 #e1f0f0 #eed7a5 #debe87  blob sky 3 .1 #fffffc
        band edge 1 .12 #4296b4  disc ground 60 .01 #be9b69""",
    "snow": """#a5bed7 #e1e8f0 #f0f4fa #d7e2f0  fir edge 8 .22 #4e706c
        disc sky 60 .008 #fcfcff  disc ground 30 .014 #c8d6e8""",
    "room": """#e0cdb4 #d6bea0 #aa7850 #8c5f3e  picture sky 2 .22 #78a0aa
        band edge 1 .02 #f5f0e6  band ground 9 .006 #785034  rug ground 1 1 #b05a56""",
    "street": """#aac3d7 #dce2e4 #969698 #707076  house edge 6 .3 #be8c73
        band edge 1 .03 #bebcb6  disc ground 40 .01 #87878a""",
    "woods": """#789669 #bec88c #786941 #564e30  blob sky 14 .18 #5c844c
        trunk edge 9 .05 #624c3a  blade ground 50 .04 #547034
        disc ground 40 .012 #b4783c""",
    "evening": """#5a508c #fab278 #7c6268 #544254  sun sky 1 .08 #ffe2a0
        blob edge 6 .22 #6e5276  blade ground 60 .04 #4a3e4a""",
    "studio": "#b4b4b4 #bcbcbc #acacac #909090  rug ground 1 1 #e8e4de",
}
# What may stand before a dog: how many, share of the dog's height, colour, how varied.
FRONTS = {
    "blade": (130, 0.13, "#548c3e", 16),
    "disc": (1, 0.09, "#c85046", 45),
    "blob": (5, 0.2, "#548c3e", 16),
    "fence": (1, 0.24, "#cebaa0", 20),
}


def gradient(size: tuple[int, int], top, low) -> Image.Image:
    """An image of this size that goes downward from one colour to another."""
    ramp = np.clip(np.linspace(top, low, max(2, size[1])), 0, 255)
    return Image.fromarray(ramp.astype(np.uint8)[:, None]).resize(size)


def tinted(colour, rng: np.random.Generator, amount: float = 12) -> tuple[int, ...]:
    """A colour near another."""
    shift = rng.normal(0, amount) + rng.normal(0, amount / 2, 3)
    return tuple(np.clip(np.add(colour, shift), 0, 255).astype(int).tolist())


def put(draw: ImageDraw.ImageDraw, shape: str, where, size: float, ink) -> None:
    """Draw one thing that stands at `where` (x, y), in pixels."""
    for kind, outline, *own in SHAPES[shape]:
        xy = np.reshape(outline, (-1, 2)) * (size, -size) + where
        if kind != "polygon":  # Pillow wants the upper left corner first
            xy = np.sort(xy, axis=0)
        getattr(draw, kind)(xy.ravel().tolist(), fill=own[0] if own else ink)


def shadow(photo: Image.Image, box: tuple[float, ...], rng) -> None:
    """The soft shadow under a dog that stands in this box."""
    left, _, right, foot = box
    wide, shift = right - left, rng.uniform(-0.12, 0.12) * (right - left)
    spot = (left + shift, foot - wide * 0.06, right + shift, foot + wide * 0.03)
    layer = Image.new("L", photo.size)
    ImageDraw.Draw(layer).ellipse(spot, fill=int(rng.uniform(70, 130)))
    photo.paste((30, 26, 40), mask=layer.filter(ImageFilter.BoxBlur(wide * 0.02 + 1)))


def behind(scene: str, size: tuple[int, int], box: tuple, rng) -> Image.Image:
    """The background of a photo of this size, for a dog that stands in this box."""
    (width, height), (left, _, right, foot) = size, box
    words = SCENES[scene].split()
    colours, things = np.array([getrgb(word) for word in words[:4]]), words[4:]
    light = rng.normal(0, 9, 3)
    if scene == "studio":  # a backdrop of any colour
        light = rng.uniform(-60, 50) + rng.normal(0, 22, 3)
    sky, sky_low, far, near = colours + light
    horizon = int(np.clip(foot - height * rng.uniform(0.07, 0.45), 8, height - 8))
    photo = gradient(size, sky, sky_low)
    photo.paste(gradient((width, height - horizon), far, near), (0, horizon))
    draw = ImageDraw.Draw(photo)
    zones = {"edge": (horizon, horizon), "ground": (horizon, height)}
    for shape, zone, count, share, ink in np.reshape(things, (-1, 5)).tolist():
        for _ in range(rng.integers((int(count) + 1) // 2, int(count) + 1)):
            span = zones.get(zone, (0, 0.75 * horizon))
            where, extent = (rng.uniform(0, width), rng.uniform(*span)), float(share)
            if shape == "rug":
                where = ((left + right) / 2, foot)
                extent = (right - left) * rng.uniform(0.55, 0.75)
            else:
                extent *= min(size) * rng.uniform(0.6, 1.4)
            put(draw, shape, where, extent, tinted(getrgb(ink), rng))
    photo = photo.filter(ImageFilter.BoxBlur(rng.uniform(0, 2.2)))
    shadow(photo, box, rng)
    return photo


def in_front(scene: str, photo: Image.Image, mask: Image.Image, box, rng) -> None:
    """Now and then something before the dog, in place; the dog's mask loses it."""
    if rng.random() < 0.6:
        return
    shape = str(rng.choice(list(FRONTS), p=[0.4, 0.2, 0.2, 0.2]))
    if scene in ("room", "street", "studio", "snow") and shape[0] == "b":
        shape = "disc"  # nothing grows here
    (left, top, right, foot), cover = box, Image.new("L", photo.size)
    count, share, ink, amount = FRONTS[shape]
    middle, spread = rng.choice([left, right]), 0.06 if shape == "blob" else 0.4
    for _ in range(count):
        x = middle + rng.normal(0, spread) * (right - left)
        where = (rng.uniform(0, photo.width) if shape == "blade" else x, foot + 4)
        size = (foot - top) * share * rng.uniform(0.6, 1.2)
        put(ImageDraw.Draw(cover), shape, where, size, 255)
    photo.paste(tinted(getrgb(ink), rng, amount), mask=cover)
    mask.paste(0, mask=cover)


def finish(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light from one side, a warm or cool tint, mild blur and the sensor's noise."""
    if rng.random() < 0.3:
        photo = photo.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.3)))
    pixels = np.asarray(photo, np.float32)
    height, width = pixels.shape[:2]
    tilt, warm = rng.uniform(-0.13, 0.13, 2), rng.normal(0, 0.05)
    tint = np.array([1 + warm, 1, 1 - warm], np.float32) * rng.uniform(0.82, 1.1)
    light = np.linspace(-tilt[0], tilt[0], height, dtype=np.float32)[:, None]
    light = 1 + light + np.linspace(-tilt[1], tilt[1], width, dtype=np.float32)
    grain = rng.standard_normal((height // 2 + 1, width // 2 + 1), np.float32)
    grain = np.repeat(np.repeat(grain * np.float32(rng.uniform(0, 4)), 2, 0), 2, 1)
    pixels = pixels * tint * light[..., None] + grain[:height, :width, None]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
