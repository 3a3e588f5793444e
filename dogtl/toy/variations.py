"""Dogs of the kennel drawn again with one thing changed, and dogs of your own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dogtl.base import DogtlError
from dogtl.toy.brush import NAMES, Dog, Pose, draw_photo, vary
from dogtl.toy.kennel import BREEDS, BUILD, COLOUR, Photo, photo_list
from dogtl.toy.scenery import SCENES

COAT = [name for name in NAMES[NAMES.index("hair") :] if name != "blue_eyes"]


def redraw(
    path: str | Path,
    *,
    scene: str | None = None,
    coat: str | None = None,
    pose: Pose | None = None,
    mirrored: bool = False,
    cut: float = 0.0,
    seed: int = 0,
) -> tuple[Image.Image, Image.Image]:
    """Return a photo of the kennel, drawn again with what is given changed.

    Everything else stays as it was: with no change it's the photo itself, before its
    JPEG. The photo (RGB) and the mask of its dog (L, 255 where it's seen) are upright,
    whatever the file's EXIF orientation. An unknown word is a DogtlError.

    Parameters
    ----------
    path : str or Path
        The photo: its file, or just the last three parts of it.
    scene : str, optional
        Another background: one of ``scenery.SCENES``.
    coat : str, optional
        The breed whose hair, markings and colours the dog wears; its build stays.
    pose : Pose, optional
        Another pose, as ``brush.sample_pose`` returns it.
    mirrored : bool, optional
        Whether left and right change places.
    cut : float, optional
        The share of the dog beyond the left edge of a square cut there, up to 0.9.
    seed : int, optional
        The seed of the kennel.

    Examples
    --------
    >>> path = "test/001.Afghan_hound/Afghan_hound_00066.jpg"
    >>> photo, mask = dogtl.toy.variations.redraw(path, scene="beach")
    >>> photo.size == mask.size
    True
    """
    _check(scene, SCENES, "scene")
    _check(coat, BREEDS, "breed")
    photo = _find(path, seed)
    rng = np.random.default_rng(photo.stream)
    dog = _dog(photo, rng)
    if coat:
        dog = replace(dog, **{name: getattr(BREEDS[coat][0], name) for name in COAT})
    image, mask = draw_photo(dog, rng, pose=pose, scene=scene)
    rng.choice([1, 6, 8], p=[0.94, 0.03, 0.03])  # how the file lies
    if rng.choice(["RGB", "L", "CMYK"], p=[0.95, 0.03, 0.02]) == "L":
        image = image.convert("L").convert("RGB")
    if mirrored:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    if cut:
        left, _, right, _ = mask.getbbox()
        left = int(left + min(cut, 0.9) * (right - left))
        side = min(image.width - left, image.height)
        top = (image.height - side) // 2
        box = (left, top, left + side, top + side)
        image, mask = image.crop(box), mask.crop(box)
    return image, mask


def draw_dog(
    breed: str, seed: int = 0, *, scene: str | None = None, **measures
) -> tuple[Image.Image, Image.Image]:
    """Return a photo of a dog of your own and its mask, as `redraw` does.

    Takes the breed to begin with and measures of `brush.Dog` to change; the rest comes
    from the seed.

    >>> photo, mask = dogtl.toy.variations.draw_dog("Pug", leg=1.5, spots=1.0)
    >>> photo.mode, mask.mode
    ('RGB', 'L')
    """
    _check(breed, BREEDS, "breed")
    _check(scene, SCENES, "scene")
    for name in measures:
        _check(name, NAMES, "measure")
    dog = replace(BREEDS[breed][0], **measures)
    return draw_photo(dog, np.random.default_rng(seed), scene=scene)


def _find(path: str | Path, seed: int) -> Photo:
    wanted = "/".join(Path(path).parts[-3:])
    found = [photo for photo in photo_list(seed) if photo.path == wanted]
    if not found:
        raise DogtlError(f"the kennel has no photo {wanted}: take one of its paths")
    return found[0]


def _dog(photo: Photo, rng: np.random.Generator) -> Dog:
    """The dog of a photo, as `kennel.stored` draws it from the same numbers."""
    coats = BREEDS[photo.breed]
    kind = coats[rng.integers(len(coats))]
    dog, tint = vary(kind, rng, BUILD), vary(kind, rng, COLOUR)
    return replace(dog, coat=tint.coat, dark=tint.dark, light=tint.light)


def _check(word: str | None, known, what: str) -> None:
    if word is not None and word not in known:
        raise DogtlError(f"{word!r} is no {what}: choose {', '.join(known)}")
