"""The kennel: photos of twelve breeds of cartoon dogs, drawn from a seed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from dogtl.store import atomic_write
from dogtl.toy.brush import Dog, draw_photo, vary

ORIENTATION = Base.Orientation
DRAWN = 946_684_800  # seconds since 1970: the first moment of 2000

WHITE, CREAM, TAN, RED = (246, 242, 234), (232, 208, 164), (198, 138, 82), (168, 92, 48)
BLACK, GREY, LIVER, FAWN = (70, 69, 77), (128, 128, 134), (112, 68, 46), (214, 176, 128)

AFGHAN = Dog(
    leg=1.25, length=1.5, tuck=0.5, neck=0.75, head=0.33, muzzle=1.7, snout=0.42,
    stop=0.15, ear=1.7, ear_width=0.42, ear_droop=1, ear_round=0.8, tail=1.1,
    tail_set=0.6, tail_curl=0.55, hair=0.8, coat=CREAM, mask=0.5,
)  # fmt: skip
HUSKY = Dog(
    leg=1.0, length=1.55, tuck=0.3, neck=0.38, head=0.41, muzzle=0.85, snout=0.46,
    stop=0.55, ear=0.95, ear_width=0.4, ear_droop=0, ear_round=0.05, tail=1.15,
    tail_set=0.75, tail_curl=0.35, plume=0.6, hair=0.12, face=0.9, bib=0.75, socks=0.75,
    blue_eyes=1, coat=BLACK, light=WHITE,
)  # fmt: skip
MALAMUTE = replace(
    HUSKY, leg=0.85, bone=0.19, tuck=0.05, head=0.48, muzzle=0.75, snout=0.6, ear=0.65,
    neck=0.32, tail_set=0.85, tail_curl=0.7, plume=1, hair=0.25, blue_eyes=0,
    face=0.65, coat=(96, 96, 104),
)  # fmt: skip
BEAGLE = Dog(
    leg=0.85, length=1.55, tuck=0.2, neck=0.35, head=0.42, muzzle=0.85, snout=0.52,
    stop=0.6, jowl=0.3, ear=1.35, ear_width=0.48, ear_droop=0.95, ear_round=0.9,
    tail=1.0, tail_set=0.98, tail_curl=0.03, saddle=0.7, face=0.65, bib=0.7, socks=0.85,
    coat=TAN, dark=BLACK, light=WHITE,
)  # fmt: skip
BASSET = replace(
    BEAGLE, leg=0.38, length=2.2, bone=0.19, head=0.46, jowl=0.9, muzzle=1.1, ear=2.2,
    ear_width=0.55, tail_set=0.8, tail_curl=0.1, tuck=0.05,
)  # fmt: skip
PEMBROKE = Dog(
    leg=0.42, length=1.95, tuck=0.1, bone=0.14, neck=0.35, head=0.43, muzzle=0.85,
    snout=0.42, stop=0.5, ear=0.85, ear_width=0.44, ear_droop=0, ear_round=0.2,
    tail=0.07, tail_set=0.5, hair=0.1, face=0.75, bib=0.8, socks=0.7,
    coat=(212, 124, 54), light=WHITE,
)  # fmt: skip
CARDIGAN = replace(
    PEMBROKE, length=2.15, ear=1.1, ear_width=0.54, ear_round=0.6, tail=1.25,
    tail_set=0.2, plume=0.8, coat=RED,
)  # fmt: skip
DACHSHUND = Dog(
    leg=0.32, length=2.8, tuck=0.25, bone=0.12, neck=0.5, head=0.36, muzzle=1.45,
    snout=0.4, stop=0.2, ear=1.3, ear_width=0.5, ear_droop=0.95, ear_round=0.9,
    tail=1.1, tail_set=0.45, face=0.35, bib=0.3, socks=0.45, coat=BLACK, light=TAN,
)  # fmt: skip
DALMATIAN = Dog(
    leg=1.2, length=1.65, tuck=0.45, neck=0.55, head=0.37, muzzle=1.05, snout=0.5,
    stop=0.45, jowl=0.2, ear=1.05, ear_width=0.45, ear_droop=0.95, ear_round=0.7,
    tail=1.2, tail_set=0.45, tail_curl=0.08, spots=1, coat=WHITE, dark=BLACK,
)  # fmt: skip
GREYHOUND = Dog(
    leg=1.45, length=1.8, tuck=1, bone=0.1, neck=0.6, head=0.35, muzzle=1.6, snout=0.4,
    stop=0.05, ear=0.8, ear_width=0.28, ear_droop=0.7, ear_round=0.2, tail=1.5,
    tail_set=0.12, tail_curl=0.15, coat=FAWN, bib=0.35, light=WHITE,
)  # fmt: skip
POODLE = Dog(
    leg=1.25, length=1.35, tuck=0.6, bone=0.09, neck=0.6, head=0.34, muzzle=1.35,
    snout=0.36, stop=0.3, ear=1.3, ear_width=0.55, ear_droop=1, ear_round=1, tail=0.6,
    tail_set=0.9, curls=1, pompon=1, coat=WHITE,
)  # fmt: skip
PUG = Dog(
    leg=0.6, length=1.2, tuck=0.1, bone=0.13, neck=0.15, head=0.5, muzzle=0.15,
    snout=0.55, stop=0.7, jowl=0.5, ear=0.65, ear_width=0.36, ear_droop=0.8,
    ear_round=0.4, tail=0.85, tail_set=0.85, tail_curl=1, mask=1, coat=FAWN,
)  # fmt: skip

PLAIN = {"face": 0.0, "bib": 0.0, "socks": 0.0}
BREEDS: dict[str, tuple[Dog, ...]] = {
    "Afghan_hound": (AFGHAN, replace(AFGHAN, coat=BLACK)),
    "Alaskan_malamute": (MALAMUTE, replace(MALAMUTE, coat=RED)),
    "Basset_hound": (BASSET, replace(BASSET, saddle=0.0)),
    "Beagle": (BEAGLE, replace(BEAGLE, coat=RED)),
    "Cardigan_welsh_corgi": (CARDIGAN, replace(CARDIGAN, coat=BLACK)),
    "Dachshund": (DACHSHUND, replace(DACHSHUND, coat=RED, **PLAIN)),
    "Dalmatian": (DALMATIAN, replace(DALMATIAN, dark=LIVER)),
    "Greyhound": (GREYHOUND, replace(GREYHOUND, coat=GREY)),
    "Pembroke_welsh_corgi": (PEMBROKE, replace(PEMBROKE, coat=(164, 108, 66))),
    "Poodle": (POODLE, replace(POODLE, coat=BLACK)),
    "Pug": (PUG, replace(PUG, coat=BLACK)),
    "Siberian_husky": (HUSKY, replace(HUSKY, coat=GREY)),
}

LOOK_ALIKES = (
    ("Alaskan_malamute", "Siberian_husky"),
    ("Basset_hound", "Beagle"),
    ("Cardigan_welsh_corgi", "Pembroke_welsh_corgi"),
)

# How much the dogs of a breed differ, in shares of each number's range: in their build
# much, or the toy module hardly makes a mistake and there is little to learn;
# in their colours less, or there would be green ones.
BUILD, COLOUR = 0.22, 0.04

# Photos of each breed, in alphabetical order: this many valid ones, and so on.
SHARES = (13, 9, 11, 12, 7, 12, 10, 9, 8, 12, 10, 7)
COUNTS: dict[str, dict[str, int]] = {
    split: {breed: times * n for breed, n in zip(BREEDS, SHARES, strict=True)}
    for split, times in (("train", 4), ("valid", 1), ("test", 2))
}
TURNED = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


class Photo(NamedTuple):
    """A photo to be drawn: where it lies, what it shows, its own random stream."""

    path: str  # such as train/001.Afghan_hound/Afghan_hound_00001.jpg
    breed: str
    stream: tuple[int, ...]  # seed, split, breed, number


def photo_list(seed: int = 0) -> list[Photo]:
    """All photos of the kennel of a seed, numbered through the splits of a breed."""
    photos, drawn = [], dict.fromkeys(BREEDS, 0)
    for s, (split, counts) in enumerate(COUNTS.items()):
        for b, (breed, count) in enumerate(counts.items()):
            for number in range(drawn[breed] + 1, drawn[breed] + count + 1):
                path = f"{split}/{b + 1:03}.{breed}/{breed}_{number:05}.jpg"
                photos.append(Photo(path, breed, (seed, s, b, number)))
            drawn[breed] += count
    return photos


def stored(photo: Photo) -> tuple[Image.Image, Image.Image, int]:
    """The pixels of a photo as its file holds them, its mask, its EXIF orientation."""
    rng = np.random.default_rng(photo.stream)
    coats = BREEDS[photo.breed]
    coat = coats[rng.integers(len(coats))]
    dog, tint = vary(coat, rng, BUILD), vary(coat, rng, COLOUR)
    dog = replace(dog, coat=tint.coat, dark=tint.dark, light=tint.light)
    image, mask = draw_photo(dog, rng)
    way = int(rng.choice([1, 6, 8], p=[0.94, 0.03, 0.03]))
    mode = str(rng.choice(["RGB", "L", "CMYK"], p=[0.95, 0.03, 0.02]))
    if way in TURNED:
        image, mask = image.transpose(TURNED[way]), mask.transpose(TURNED[way])
    return image.convert(mode), mask, way


def draw_one(relative_path: str, seed: int = 0) -> tuple[Image.Image, Image.Image]:
    """One photo of the kennel, drawn again, and the mask of its dog.

    The image (mode RGB, L or CMYK) has the pixels that `draw_kennel` gives to the JPEG
    encoder. The mask (mode L, 0 or 255) lies on them as they are stored: a photo with
    an EXIF orientation is stored turned, and `ImageOps.exif_transpose` of the file
    turns it upright but knows nothing of the mask. A path that is none of the kennel's
    is a KeyError.
    """
    wanted = str(relative_path).replace("\\", "/")
    photos = {photo.path: photo for photo in photo_list(seed)}
    image, mask, _ = stored(photos[wanted])
    return image, mask


def write(folder: Path, photo: Photo) -> None:
    """Draw one photo into its place, if it isn't there; the file appears whole.

    All have one fixed time: it is part of the names of their squares, which are then
    the same in every home.
    """
    path, exif, buffer = folder / photo.path, Image.Exif(), io.BytesIO()
    if path.exists():
        return
    image, _, way = stored(photo)
    if way != 1:
        exif[ORIENTATION] = way
    image.save(buffer, "JPEG", quality=90, exif=exif)
    atomic_write(path, buffer.getvalue(), modified=DRAWN)


def draw_kennel(
    folder: Path,
    seed: int = 0,
    progress: Callable | None = None,
    workers: int | None = None,
) -> None:
    """Draw the photos of the kennel of a seed that a folder does not hold yet.

    `progress`, if given, wraps the photos as they are done, as `dogtl.base.progress`
    does: `progress(iterable, n, "kennel")`. The files do not depend on `workers`, the
    number of threads (as many as there are cores unless given).
    """
    photos = photo_list(seed)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        done = pool.map(partial(write, Path(folder)), photos)
        for _ in progress(done, len(photos), "kennel") if progress else done:
            pass
