"""Photos: find them, list them, and read any of them as an upright RGB image.

Until `Photos` is made, they're rows by split: ``{"train": [("Pug", path), …], …}``.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.pool import ThreadPool
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from dogtl import store, toy
from dogtl.base import DogtlError, choose, choose_photos, is_word, log, progress

if TYPE_CHECKING:
    from PIL.Image import Image

Row = tuple[str, Path]  # a breed, and a photo of it

SPLITS = {"train": ["train"], "valid": ["valid", "validation", "val"], "test": ["test"]}
SPLIT_OF_FOLDER = {name: split for split, names in SPLITS.items() for name in names}
TRAIN = 70  # percent of the photos, if all splits are cut
HELD_OUT = 15  # percent for valid, and as much for test
LAYOUTS = (
    "lay the photos out as train|valid|test / breed / file, as train / breed / file"
    " (missing splits are cut from it) or as breed / file, or list them in a CSV file"
    " with the columns path, breed and optionally split"
)
STRAY_REASON = "it's neither a breed's folder with photos, nor a photo in one"
DOGS = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
# Without a list, Pillow would pass EPS files to Ghostscript, which runs them.
PILLOW_FORMATS = (
    "JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "TGA"
)  # fmt: skip
MAX_BYTES = 500_000_000  # per file
MAX_PIXELS = 100_000_000  # per photo, as decoded
# Decoding takes up to 24 bytes a pixel, so large photos are decoded one at a time.
LARGE = 25_000_000  # pixels
LARGE_PHOTO_LOCK = Lock()


class UnreadablePhoto(DogtlError):
    """A file that isn't a readable image; the message says why."""


@dataclass(frozen=True, eq=False, repr=False)
class Photos:
    """The photos of each split, with their breeds.

    Attributes
    ----------
    name : str
        What was chosen: ``kennel``, ``dogs`` or an absolute path.
    folder : Path
        The folder that holds the splits, or the CSV file.
    breeds : list of str
        The classes: the breeds in train, sorted.
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
        return self._describe("photos")

    def _describe(self, what: str) -> str:
        counts = ", ".join(f"{len(self.paths[split])} {split}" for split in self.paths)
        n_skipped = sum(map(len, self.skipped.values()))
        return f"{counts} {what}, {len(self.breeds)} breeds, {n_skipped} skipped"


def load_photos(photos: str | Path | None = None, home: Path | None = None) -> Photos:
    """Find and list the chosen photos.

    At first use, the kennel is drawn and the dogs are fetched. A folder of your own
    holds train, valid and test, each with a folder of photos for each breed. If valid,
    test or all three are missing, they are cut breed by breed, in the order of the
    photos' hashes and in the proportions 70 : 15 : 15. Equal photos stay together.
    A CSV file has the columns path (relative to its folder), breed and optionally
    split. Photos are opened only if splits must be cut, and only once.

    Parameters
    ----------
    photos : str or Path, optional
        ``kennel`` (the drawn photos), ``dogs`` (Udacity's 133 breeds), a folder or a
        CSV file; defaults to ``DOGTL_PHOTOS``, then ``kennel``.
    home : Path, optional
        The folder for everything generated; defaults to ``DOGTL_HOME``, then ``data``.

    Returns
    -------
    Photos
        Paths, breeds and labels by split.

    Raises
    ------
    DogtlError
        If the word is unknown, the photos are laid out differently, or the dogs can't
        be fetched.

    Examples
    --------
    >>> photos = dogtl.load_photos("kennel")
    >>> photos
    480 train, 120 valid, 240 test photos, 12 breeds, 0 skipped
    >>> photos.paths["test"][0].parent.name
    '001.Afghan_hound'
    """
    name = choose_photos(photos)
    home = store.find_home(home)
    if not is_word(name):
        source = Path(name)
    elif name == "kennel":
        source = toy.kennel_folder(home)
    elif name == "dogs":
        source = _fetch_dogs(home)
    else:
        choices = f"kennel, dogs or a path (./{name})"
        raise DogtlError(f"{name!r} isn't known: choose {choices}")
    return _list_photos(source, name, home)


def read_photo(path: str | Path | Image, short_side: int | None = None) -> Image:
    """Return a photo as an RGB image, upright.

    The EXIF orientation is applied, transparent parts become white, 16-bit greys are
    scaled to 8 bits, and only the first of several frames is used.

    Parameters
    ----------
    path : str, Path or PIL.Image.Image
        A file in any common image format, or an image, which is not modified.
    short_side : int, optional
        If given, a JPEG may be decoded smaller, with a short side of at least this many
        pixels, which is much faster.

    Returns
    -------
    PIL.Image.Image
        Mode RGB: uint8 [height, width, 3] as an array.

    Raises
    ------
    OSError
        If the file can't be opened.
    UnreadablePhoto
        If it isn't an image, or is larger than 500 MB or 100 megapixels (of a JPEG the
        decoded pixels count).

    Examples
    --------
    >>> photos = dogtl.load_photos("kennel")
    >>> image = dogtl.read_photo(photos.paths["test"][0])
    >>> image.mode, image.size
    ('RGB', (427, 534))
    """
    try:
        with _open_photo(path) as image:
            stored_pixels = image.width * image.height
            if short_side:
                image.draft(None, (short_side, short_side))
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                limit = f"{MAX_PIXELS // 10**6} megapixels"
                raise UnreadablePhoto(f"it's larger than {limit}")
            if "progressive" in image.info:  # it is held in memory at full size
                pixels = stored_pixels
            with LARGE_PHOTO_LOCK if pixels > LARGE else nullcontext():
                return _decode(image)
    except MemoryError:
        raise OSError(errno.ENOMEM, "there isn't enough memory for it") from None
    except Exception as error:  # decoders raise nearly anything on broken files
        if getattr(error, "errno", None):  # from the file system, not from a decoder
            raise
        # Cut Pillow's " <_io.BytesIO object at 0x…>", and line breaks.
        reason = " ".join(str(error).partition(" <")[0].split())
        raise UnreadablePhoto(reason or type(error).__name__) from error


def write_splits(photos: Photos, file: Path) -> None:
    """Write which photo is in which split, as a CSV file that `load_photos` reads."""
    folder = os.path.dirname(os.path.abspath(file))
    rows = [["path", "breed", "split"]]
    for split, paths in photos.paths.items():
        for path, label in zip(paths, photos.labels[split], strict=True):
            rows.append([os.path.relpath(path, folder), photos.breeds[label], split])
    data = store.to_csv(rows)
    if file.is_file() and file.read_bytes() not in (data, b""):
        problem = f"{file} already exists with different splits"
        raise DogtlError(f"{problem}: give it as --photos, or name another file")
    store.atomic_write(file, data)


def check_complete(photos: Photos) -> None:
    """Raise DogtlError if train lacks photos of a breed, or another split is empty."""
    for split, labels in photos.labels.items():
        counts = np.bincount(labels, minlength=len(photos.breeds))
        if split == "train" and not counts.all():
            missing = f"train photo of {photos.breeds[counts.argmin()]}"
        elif not counts.any():
            missing = f"{split} photo"
        else:
            continue
        problem = f"{photos.folder} has no usable {missing}"
        raise DogtlError(f"{problem}: add some; {LAYOUTS}")


def _open_photo(photo: str | Path | Image) -> Image:
    from PIL import Image

    if isinstance(photo, Image.Image):
        return photo.copy()
    if os.access(photo, os.R_OK) and not os.path.isfile(photo):
        # Reading a pipe would block.
        raise OSError(errno.EINVAL, "it's neither a file nor a folder with photos")
    if os.path.getsize(photo) > MAX_BYTES:
        raise UnreadablePhoto(f"the file is larger than {MAX_BYTES // 10**6} MB")
    return Image.open(io.BytesIO(Path(photo).read_bytes()), formats=PILLOW_FORMATS)


def _decode(image: Image) -> Image:
    from PIL import Image, ImageOps

    image.load()
    with suppress(Exception):  # ignore broken EXIF
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit greys: Pillow would clip them
        grey = (np.asarray(image) >> 8).clip(0, 255)
        image = Image.fromarray(grey.astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.clear()  # otherwise squares would inherit comments of their photos
    return image


def _fetch_dogs(home: Path) -> Path:
    """Fetch Udacity's dogs, or what ``DOGTL_DOGS_URL`` names: an address or a path."""
    from dogtl import download  # importing it is slow

    source = choose(None, "DOGTL_DOGS_URL", DOGS)
    if "://" in source:
        signature = source
    else:
        source = os.path.abspath(source)  # `choose` takes mine.zip for a known word
        if os.path.isdir(source):
            return Path(source)
        signature = store.file_signature(Path(source), home)
    name = "dogs" if source == DOGS else f"dogs-{store.fingerprint(signature)}"
    return download.fetch_folder(source, home / "photos" / name)


def _list_photos(source: Path, name: str, home: Path) -> Photos:
    """List the photos of a folder or a CSV file, in all three splits."""
    is_csv = os.path.isfile(source)
    if is_csv:
        listed, strays = _list_csv(source), {}
    else:
        listed, strays = _list_folder(source)
    breeds = sorted({breed for breed, _ in listed["train"]})
    if len(breeds) < 2:
        problem = f"{source} has {len(breeds)} breed(s) in train, but needs at least 2"
        raise DogtlError(f"{problem}: {LAYOUTS}")
    missing = [split for split in SPLITS if split not in listed]
    if missing:
        listed |= _cut(listed["train"], missing, home)
    numbers = {breed: i for i, breed in enumerate(breeds)}
    paths, labels, skipped = {}, {}, {}
    for split in SPLITS:
        rows = listed[split]
        if unknown := [breed for breed, _ in rows if breed not in numbers]:
            problem = f"train lacks {unknown[0]}, a breed in {split} of {source}"
            raise DogtlError(f"{problem}: add it; {LAYOUTS}")
        paths[split] = [path for _, path in rows]
        labels[split] = np.array([numbers[breed] for breed, _ in rows], np.int64)
        skipped[split] = dict.fromkeys(strays.get(split, []), STRAY_REASON)
    folder = source.parent if is_csv else source
    photos = Photos(name, folder, breeds, paths=paths, labels=labels, skipped=skipped)
    check_complete(photos)
    if missing:
        cut = f"{' and '.join(missing)} cut from {name}, by content: {photos}"
        log.warning("%s; dogtl fetch --splits FILE.csv lists them", cut)
    for split in SPLITS:
        if len(set(labels[split].tolist())) == 1:
            breed = breeds[labels[split][0]]
            log.warning("all %s photos are of %s: add others", split, breed)
    return photos


def _list_folder(folder: Path) -> tuple[dict[str, list[Row]], dict[str, list[Path]]]:
    """Return the photos of each split that a folder has, and its strays."""
    found = {place.name for place in _visible(folder) if os.path.isdir(place)}
    if not found & SPLIT_OF_FOLDER.keys():  # the layout is breed / file
        rows, strays = _list_breeds(folder)
        return {"train": rows}, {"train": strays}
    if "train" not in found:
        raise DogtlError(f"there is no folder {folder / 'train'}: {LAYOUTS}")
    listed, strays = {}, {}
    for split, names in SPLITS.items():
        places = [folder / name for name in names if name in found]
        if len(places) > 1:
            problem = f"{places[0]} and {places[1]} are both for the split {split}"
            raise DogtlError(f"{problem}: keep one; {LAYOUTS}")
        if places:
            listed[split], strays[split] = _list_breeds(places[0])
    return listed, strays


def _list_breeds(folder: Path) -> tuple[list[Row], list[Path]]:
    """Return the photos in the breeds' folders, and what lies in the wrong place."""
    rows, strays = [], []
    for place in _visible(folder):
        inside = _visible(place) if os.path.isdir(place) else []
        if not inside:
            strays.append(place)
        for path in inside:
            if os.path.isfile(path):
                rows.append((place.name, path))
            else:
                strays.append(path)
    return sorted(rows), sorted(strays)


def _visible(folder: Path) -> list[Path]:
    """Return the paths in a folder, except hidden ones."""
    try:
        os.stat(os.path.join(folder, "."))  # fails without the x permission
        return [folder / name for name in os.listdir(folder) if name[0] != "."]
    except PermissionError as error:
        problem = f"you lack permission to read the folder {folder}"
        raise DogtlError(f"{problem}: run chmod u+rx on it") from error
    except OSError as error:
        raise DogtlError(f"there is no folder {folder}: {LAYOUTS}") from error


def _list_csv(file: Path) -> dict[str, list[Row]]:
    """Return the photos of each split that a CSV file lists; train is the default."""
    listed = {"train": set()}  # sets, since a row may be there twice
    for line, row in _read_csv(file):
        path, breed = row.get("path"), row.get("breed", "").strip()
        split = SPLIT_OF_FOLDER.get(row.get("split", "").strip() or "train")
        if not (path and breed and split) or "\0" in path:
            problem = f"row {line} of {file} has no path, no breed, or an unknown split"
            raise DogtlError(f"{problem}: {LAYOUTS}")
        place = Path(os.path.abspath(os.path.join(file.parent, path)))
        listed.setdefault(split, set()).add((breed, place))
    return {split: sorted(rows) for split, rows in listed.items()}


def _read_csv(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the lines below the header: their number, and their cells by name."""
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    try:
        with open(file, **options) as text:
            reader = csv.reader(text)
            rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DogtlError(f"{file} isn't a CSV file ({error}): {LAYOUTS}") from error
    names = [name.strip().lower() for name in rows[0][1]] if rows else []
    return [(line, dict(zip(names, row, strict=False))) for line, row in rows[1:]]


def _cut(rows: list[Row], missing: list[str], home: Path) -> dict[str, list[Row]]:
    """Cut the missing splits from train's rows; return them, and the rest of train.

    A breed with too few photos for all splits stays in train.
    """
    hashes = _hash_contents([path for _, path in rows], home)
    share = HELD_OUT / (TRAIN + HELD_OUT * len(missing))
    # Splits are assigned by hash: equal photos stay together, whatever their breed.
    split_of: dict[str, str] = {}
    for _, photos in groupby(rows, key=itemgetter(0)):
        new = sorted({hashes[path] for _, path in photos} - split_of.keys())
        split_of |= dict.fromkeys(new, "train")
        if len(new) > len(missing):
            n = max(1, round(len(new) * share))
            for i, split in enumerate(missing):
                split_of |= dict.fromkeys(new[i * n : (i + 1) * n], split)
    return {
        split: [row for row in rows if split_of[hashes[row[1]]] == split]
        for split in ("train", *missing)
    }


def _hash_contents(paths: list[Path], home: Path) -> dict[Path, str]:
    """Return a hash of each photo's content; the home stores them."""
    signatures = [store.file_signature(path, home) for path in paths]
    file = home / "hashes" / f"{store.fingerprint(signatures)}.npz"
    hashes = store.load_arrays(file).get("hashes")
    if not isinstance(hashes, list) or len(hashes) != len(paths):
        with ThreadPool() as pool:
            results = pool.imap(_hash_content, paths)
            hashes = list(progress(results, len(paths), "hashes"))
        if all(hashes):  # what couldn't be read is tried again next time
            store.save_arrays(file, {"hashes": hashes})
    return {
        path: digest or store.fingerprint(str(path))
        for path, digest in zip(paths, hashes, strict=True)
    }


def _hash_content(path: Path) -> str:
    """Return a hash of a photo's content; "" if it can't be read now."""
    try:
        # Reading a pipe would block, and a file that's too large is never a photo.
        if os.path.isfile(path) and os.path.getsize(path) <= MAX_BYTES:
            return store.fingerprint_file(path)
        return store.fingerprint(str(path))
    except (OSError, MemoryError):
        return ""
