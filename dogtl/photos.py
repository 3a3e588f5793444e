"""Photos: find them, list them, and read any of them as an upright RGB image."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dogtl import store, toy
from dogtl.base import DogtlError, choose, is_word, plural

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = {"train": ["train"], "valid": ["valid", "validation", "val"], "test": ["test"]}
DOGS = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
# Without a list Pillow would hand EPS files to Ghostscript, a program.
FORMATS = "JPEG PNG WEBP AVIF GIF TIFF BMP PPM JPEG2000 TGA"


class UnreadablePhoto(DogtlError):
    """A photo whose bytes are no image; the message says why."""


@dataclass(frozen=True, eq=False, repr=False)
class Photos:
    """Photos, laid out as train|valid|test / breed / file.

    Attributes
    ----------
    name : str
        What was chosen: ``kennel``, ``dogs`` or the folder's absolute path.
    folder : Path
        The folder that holds the splits.
    breeds : list of str
        The classes: the names of the folders in train, sorted.
    paths : dict of str to list of Path
        The photos of each split (``train``, ``valid``, ``test``), sorted.
    labels : dict of str to ndarray, int64 [photos]
        Each photo's breed, as an index into `breeds`.
    skipped : dict of str to dict of Path to str
        What can't be used in each split, with the reason.
    """

    name: str
    folder: Path
    breeds: list[str]
    paths: dict[str, list[Path]]
    labels: dict[str, np.ndarray]
    skipped: dict[str, dict[Path, str]]

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.paths[split])} {split}" for split in self.paths)
        n_skipped = sum(map(len, self.skipped.values()))
        photos = plural(len(self.paths["test"]), "photo")
        return f"{counts} {photos}, {len(self.breeds)} breeds, {n_skipped} skipped"


def load_photos(photos: str | Path | None = None, home: Path | None = None) -> Photos:
    """Return the chosen photos, listed; no photo is opened.

    The kennel is drawn at first use, the dogs are fetched.

    Parameters
    ----------
    photos : str or Path, optional
        ``kennel`` (the drawn photos), ``dogs`` (Udacity's 133 breeds) or a folder;
        unless given ``DOGTL_PHOTOS``, else ``kennel``.
    home : Path, optional
        The folder for everything generated; unless given ``DOGTL_HOME``, else ``data``.

    Returns
    -------
    Photos
        Paths, breeds and labels by split.

    Raises
    ------
    DogtlError
        If the word is unknown, the folder isn't laid out like this, or the dogs can't
        be fetched.

    Examples
    --------
    >>> photos = dogtl.load_photos("kennel")
    >>> photos
    480 train, 120 valid, 240 test photos, 12 breeds, 0 skipped
    >>> photos.paths["test"][0].parent.name
    '001.Afghan_hound'
    """
    name = choose(photos, "DOGTL_PHOTOS", "kennel")
    if not is_word(name):
        folder = Path(name)
    elif name == "kennel":
        folder = toy.kennel_folder(store.find_home(home))
    elif name == "dogs":
        folder = _fetch_dogs(store.find_home(home))
    else:
        raise DogtlError(f"{name!r} isn't known: choose kennel, dogs or a path")
    return _list_photos(folder, name)


def read_photo(path: str | Path, short_side: int | None = None) -> Image:
    """Return a photo as an RGB image, upright.

    The EXIF orientation is applied, transparency is laid on white, 16-bit greys are
    scaled to 8 bits, and only the first of several frames is used.

    Parameters
    ----------
    path : str or Path
        A file in any common image format.
    short_side : int, optional
        A JPEG may be decoded smaller, down to this many pixels, which is much faster.

    Returns
    -------
    PIL.Image.Image
        Mode RGB: uint8 [height, width, 3] as an array.

    Raises
    ------
    OSError
        If the file can't be opened.
    UnreadablePhoto
        If it isn't an image.

    Examples
    --------
    >>> photos = dogtl.load_photos("kennel")
    >>> image = dogtl.read_photo(photos.paths["test"][0])
    >>> image.mode, image.size
    ('RGB', (427, 534))
    """
    from PIL import Image, ImageOps

    if not os.path.isfile(path) and os.path.exists(path):  # a pipe would wait forever
        raise OSError(errno.EINVAL, "it isn't a file")
    try:
        data = Path(path).read_bytes()
        with Image.open(io.BytesIO(data), formats=FORMATS.split()) as image:
            if short_side:
                image.draft(None, (short_side, short_side))
            image.load()
            with suppress(Exception):  # broken EXIF data don't spoil the pixels
                ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except MemoryError:
        raise OSError(errno.ENOMEM, "there isn't enough memory for it") from None
    except Exception as error:  # decoders raise nearly anything on broken files
        if getattr(error, "errno", None):  # it's the file that can't be read
            raise
        reason = " ".join(str(error).partition(" <")[0].split())  # no <object at 0x1f>
        raise UnreadablePhoto(reason or type(error).__name__) from error


def check_complete(photos: Photos) -> None:
    """Raise DogtlError if a breed has no photo in train, or another split none."""
    for split, labels in photos.labels.items():
        counts = np.bincount(labels, minlength=len(photos.breeds))
        if not (counts.all() if split == "train" else counts.any()):
            breed = photos.breeds[counts.argmin()]
            raise DogtlError(
                f"{photos.folder} has no usable {split} photo of {breed}: add some"
            )


def _to_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit greys: Pillow would clip them
        grey = np.asarray(image, dtype=np.float64).clip(0, 65535)
        image = Image.fromarray((grey / 257 + 0.5).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.clear()  # or a comment in the photo would be saved with its square
    return image


def _fetch_dogs(home: Path) -> Path:
    """Fetch Udacity's dogs, or what ``DOGTL_DOGS_URL`` names: an address or a path."""
    from dogtl import download  # what it imports takes long

    source = choose(None, "DOGTL_DOGS_URL", DOGS)
    if "://" not in source:
        source = os.path.abspath(source)  # mine.zip is no word, but a path
    if os.path.isdir(source):
        return Path(source)
    facts = os.stat(source) if os.path.isfile(source) else None
    stamp = [facts.st_size, facts.st_mtime_ns] if facts else []
    name = "dogs" if source == DOGS else f"dogs-{store.fingerprint(source, stamp)}"
    return download.fetch_folder(source, home / "photos" / name)


def _list_photos(folder: Path, name: str) -> Photos:
    """List the photos in train|valid|test / breed / file, without opening any."""
    places = {split: _find_split(folder, split) for split in SPLITS}
    breeds = [place.name for place in _visible(places["train"]) if os.path.isdir(place)]
    if len(breeds) < 2:
        raise DogtlError(
            f"{places['train']} holds {len(breeds)} breed folder(s): it needs two"
        )
    photos = Photos(name, folder, breeds, {}, {}, {})
    for split, place in places.items():
        paths, strays = _list_split(place, breeds)
        labels = [breeds.index(path.parent.name) for path in paths]
        photos.paths[split] = paths
        photos.labels[split] = np.array(labels, dtype=np.int64)
        photos.skipped[split] = dict.fromkeys(strays, "it isn't a file of a breed")
    check_complete(photos)
    return photos


def _find_split(folder: Path, split: str) -> Path:
    found = [folder / name for name in SPLITS[split] if (folder / name).is_dir()]
    if len(found) != 1:
        raise DogtlError(
            f"there is {'more than one' if found else 'no'} folder"
            f" {folder / ' or '.join(SPLITS[split])}: put the {split} photos into one"
        )
    return found[0]


def _list_split(folder: Path, breeds: list[str]) -> tuple[list[Path], list[Path]]:
    """Return the photos in the breeds' folders, and what lies in the wrong place."""
    photos, strays = [], []
    for place in _visible(folder):
        if not os.path.isdir(place):
            strays.append(place)
        elif place.name not in breeds:
            raise DogtlError(f"train lacks {place.name}, a breed of {folder}: add it")
        else:
            for path in _visible(place):
                (photos if os.path.isfile(path) else strays).append(path)
    return photos, strays


def _visible(folder: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return [folder / name for name in names]
