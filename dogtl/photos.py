"""Photos: find them, list them, and read any of them as an upright RGB image.

Listed photos are breeds of paths, by split: ``{"train": {"Pug": [path, …], …}, …}``.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable
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
from dogtl.base import DogtlError, choose, choose_photos, is_word, log, plural, progress

if TYPE_CHECKING:
    from PIL.Image import Image

    Row = tuple[str, Path]  # a breed, and a photo of it

SPLITS = {"train": ["train"], "valid": ["valid", "validation", "val"], "test": ["test"]}
SPLIT_OF_FOLDER = {name: split for split, names in SPLITS.items() for name in names}
TRAIN, HELD_OUT = 70, 15  # percent, where splits are cut: 15 go to valid, 15 to test
LAYOUTS = (
    "lay the photos out as train|valid|test / breed / file, as train / breed / file"
    " (what's missing is cut from it) or as breed / file, or list them in a CSV file"
    " with the columns path, breed and, if you like, split"
)
STRAY_REASON = "it's neither a breed's folder with photos, nor a photo in one"
DOGS = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
# Without a list Pillow would hand EPS files to Ghostscript, a program.
FORMATS = "JPEG PNG WEBP AVIF GIF TIFF BMP PPM JPEG2000 TGA"
# Reading takes up to 24 bytes a pixel, in each thread: large photos go one at a time.
MAX_BYTES, MAX_PIXELS, LARGE = 500_000_000, 100_000_000, 25_000_000
LARGE_PHOTO_LOCK = Lock()


class UnreadablePhoto(DogtlError):
    """A photo whose bytes are no image; the message says why."""


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
        return self._describe(plural(len(self.paths["test"]), "photo"))

    def _describe(self, what: str) -> str:
        counts = ", ".join(f"{len(self.paths[split])} {split}" for split in self.paths)
        n_skipped = sum(map(len, self.skipped.values()))
        return f"{counts} {what}, {len(self.breeds)} breeds, {n_skipped} skipped"


def load_photos(photos: str | Path | None = None, home: Path | None = None) -> Photos:
    """Return the chosen photos, listed.

    The kennel is drawn at first use, the dogs are fetched. A folder holds train, valid
    and test, each with a folder of photos for each breed. If valid or test is missing,
    or all three are, it's cut within each breed, in the order of the photos' hashes:
    the splits' sizes are as 70 to 15 to 15. Equal photos stay together. Or give a CSV
    file with the columns path (from the CSV's folder), breed and, if you like, split.
    Photos are opened only to cut them, and once.

    Parameters
    ----------
    photos : str or Path, optional
        ``kennel`` (the drawn photos), ``dogs`` (Udacity's 133 breeds), a folder or a
        CSV file; unless given ``DOGTL_PHOTOS``, else ``kennel``.
    home : Path, optional
        The folder for everything generated; unless given ``DOGTL_HOME``, else ``data``.

    Returns
    -------
    Photos
        Paths, breeds and labels by split.

    Raises
    ------
    DogtlError
        If the word is unknown, the photos aren't laid out like this, or the dogs can't
        be fetched.

    Examples
    --------
    >>> photos = dogtl.load_photos("kennel")
    >>> photos
    480 train, 120 valid, 240 test photos, 12 breeds, 0 skipped
    >>> photos.paths["test"][0].parent.name
    '001.Afghan_hound'
    """
    name, home = choose_photos(photos), store.find_home(home)
    if not is_word(name):
        source = Path(name)
    elif name == "kennel":
        source = toy.kennel_folder(home)
    elif name == "dogs":
        source = _fetch_dogs(home)
    else:
        known = "choose kennel, dogs or a path"
        raise DogtlError(f"{name!r} isn't known: {known} (./{name})")
    return _list_photos(source, name, home)


def read_photo(path: str | Path | Image, short_side: int | None = None) -> Image:
    """Return a photo as an RGB image, upright.

    The EXIF orientation is applied, transparency is laid on white, 16-bit greys are
    scaled to 8 bits, and only the first of several frames is used.

    Parameters
    ----------
    path : str, Path or PIL.Image.Image
        A file in any common image format; or an image, which stays as it is.
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
        If it isn't an image, or has more than 100 megapixels (of a JPEG those that
        are decoded count) or 500 MB.

    Examples
    --------
    >>> photos = dogtl.load_photos("kennel")
    >>> image = dogtl.read_photo(photos.paths["test"][0])
    >>> image.mode, image.size
    ('RGB', (427, 534))
    """
    try:
        with _open_photo(path) as image:
            if short_side:
                image.draft(None, (short_side, short_side))
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise UnreadablePhoto(f"it has over {MAX_PIXELS // 10**6} megapixels")
            with LARGE_PHOTO_LOCK if pixels > LARGE else nullcontext():
                return _decode(image)
    except MemoryError:
        raise OSError(errno.ENOMEM, "there isn't enough memory for it") from None
    except Exception as error:  # decoders raise nearly anything on broken files
        if getattr(error, "errno", None):  # it's the file that can't be read
            raise
        reason = " ".join(str(error).partition(" <")[0].split())  # no <object at 0x1f>
        raise UnreadablePhoto(reason or type(error).__name__) from error


def write_splits(photos: Photos, file: Path) -> None:
    """Write which photo is in which split, as a CSV file that `load_photos` takes."""
    folder, rows = os.path.dirname(os.path.abspath(file)), [["path", "breed", "split"]]
    for split, paths in photos.paths.items():
        for path, label in zip(paths, photos.labels[split], strict=True):
            rows.append([os.path.relpath(path, folder), photos.breeds[label], split])
    data = store.to_csv(rows)
    if file.is_file() and file.read_bytes() not in (data, b""):
        problem = f"{file} is there and lists the photos otherwise"
        raise DogtlError(f"{problem}: give it as --photos, or name another file")
    store.atomic_write(file, data)


def check_complete(photos: Photos) -> None:
    """Raise DogtlError if a breed has no photo in train, or another split none."""
    for split, labels in photos.labels.items():
        counts = np.bincount(labels, minlength=len(photos.breeds))
        if not (counts.all() if split == "train" else counts.any()):
            of = f" of {photos.breeds[counts.argmin()]}" if split == "train" else ""
            problem = f"{photos.folder} has no usable {split} photo{of}"
            raise DogtlError(f"{problem}: add some; {LAYOUTS}")


def _open_photo(photo: str | Path | Image) -> Image:
    from PIL import Image

    if isinstance(photo, Image.Image):
        return photo.copy()
    if os.access(photo, os.R_OK) and not os.path.isfile(photo):  # a pipe would hang
        raise OSError(errno.EINVAL, "it's neither a file nor a folder with photos")
    if os.path.getsize(photo) > MAX_BYTES:
        raise UnreadablePhoto(f"the file has over {MAX_BYTES // 10**6} MB")
    return Image.open(io.BytesIO(Path(photo).read_bytes()), formats=FORMATS.split())


def _decode(image: Image) -> Image:
    from PIL import Image, ImageOps

    image.load()
    with suppress(Exception):  # broken EXIF data don't spoil the pixels
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit greys: Pillow would clip them
        grey = (np.asarray(image) >> 8).clip(0, 255)
        image = Image.fromarray(grey.astype(np.uint8))
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
    signature = source if "://" in source else store.file_signature(Path(source), home)
    name = "dogs" if source == DOGS else f"dogs-{store.fingerprint(signature)}"
    return download.fetch_folder(source, home / "photos" / name)


def _list_photos(source: Path, name: str, home: Path) -> Photos:
    """List the photos of a folder or a CSV file, in all three splits."""
    is_file = os.path.isfile(source)
    listed, strays = (_list_csv if is_file else _list_folder)(source)
    breeds = sorted({breed for breed, _ in listed["train"]})
    if len(breeds) < 2:
        problem = f"{source} holds {len(breeds)} breed(s) to train, and needs two"
        raise DogtlError(f"{problem}: {LAYOUTS}")
    missing = [split for split in SPLITS if split not in listed]
    if missing:
        listed |= _cut(listed["train"], missing, home)
    photos = Photos(name, source.parent if is_file else source, breeds, {}, {}, {})
    numbers = {breed: i for i, breed in enumerate(breeds)}
    for split in SPLITS:
        rows = sorted(listed[split])
        if unknown := [breed for breed, _ in rows if breed not in numbers]:
            problem = f"train lacks {unknown[0]}, a breed in {split} of {source}"
            raise DogtlError(f"{problem}: add it; {LAYOUTS}")
        photos.paths[split] = [path for _, path in rows]
        photos.labels[split] = np.array([numbers[breed] for breed, _ in rows], np.int64)
        photos.skipped[split] = dict.fromkeys(
            sorted(strays.get(split, [])), STRAY_REASON
        )
    check_complete(photos)
    if missing:
        cut = f"{' and '.join(missing)} cut from {name}, by content: {photos}"
        log.warning("%s; dogtl fetch --splits FILE.csv lists them", cut)
    for split, labels in photos.labels.items():
        if len(set(labels.tolist())) == 1:
            log.warning("all %s photos are of %s: add others", split, breeds[labels[0]])
    return photos


def _list_folder(folder: Path) -> tuple[dict[str, list[Row]], dict[str, list[Path]]]:
    """Return the photos of each split that a folder has, and its strays."""
    found = {place.name for place in _visible(folder) if os.path.isdir(place)}
    places = {name: folder / name for name in SPLIT_OF_FOLDER if name in found}
    if places:
        places["train"] = folder / "train"
    listed, strays = {}, {}
    for name, place in (places or {"train": folder}).items():  # else breed / file
        if SPLIT_OF_FOLDER[name] in listed:
            raise DogtlError(
                f"{place} is one {SPLIT_OF_FOLDER[name]} too many: {LAYOUTS}"
            )
        listed[SPLIT_OF_FOLDER[name]], strays[SPLIT_OF_FOLDER[name]] = _list_breeds(
            place
        )
    return listed, strays


def _list_breeds(folder: Path) -> tuple[list[Row], list[Path]]:
    """Return the photos in the breeds' folders, and what lies in the wrong place."""
    rows, strays = [], []
    for place in _visible(folder):
        inside = _visible(place) if os.path.isdir(place) else []
        strays += [] if inside else [place]
        for path in inside:
            if os.path.isfile(path):
                rows.append((place.name, path))
            else:
                strays.append(path)
    return rows, strays


def _visible(folder: Path) -> list[Path]:
    """Return what lies in a folder, less what is hidden."""
    try:
        os.stat(os.path.join(folder, "."))  # may its files be opened?
        return [folder / name for name in os.listdir(folder) if name[0] != "."]
    except PermissionError as error:
        problem = f"you have no right to list {folder} and open what's in it"
        raise DogtlError(f"{problem}: give it to yourself (chmod u+rx)") from error
    except OSError as error:
        raise DogtlError(f"there is no folder {folder}: {LAYOUTS}") from error


def _list_csv(file: Path) -> tuple[dict[str, set[Row]], dict[str, list[Path]]]:
    """Return the photos that a CSV file lists for each split; train, if it has none."""
    listed: dict[str, set[Row]] = {"train": set()}
    for line, row in enumerate(_read_csv(file), start=2):
        path, breed = row.get("path"), row.get("breed", "").strip()
        split = SPLIT_OF_FOLDER.get(row.get("split", "").strip() or "train")
        if not (path and breed and split) or "\0" in path:
            problem = f"row {line} of {file} has no path, no breed, or an unknown split"
            raise DogtlError(f"{problem}: {LAYOUTS}")
        place = Path(os.path.abspath(os.path.join(file.parent, path)))
        listed.setdefault(split, set()).add((breed, place))
    return listed, {}


def _read_csv(file: Path) -> list[dict[str, str]]:
    how = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    try:
        with open(file, **how) as text:
            rows = [row for row in csv.reader(text) if row] or [[]]
    except csv.Error as error:
        raise DogtlError(f"{file} is no CSV file ({error}): {LAYOUTS}") from error
    names = [name.strip().lower() for name in rows[0]]
    return [dict(zip(names, row, strict=False)) for row in rows[1:]]


def _cut(rows: Iterable[Row], missing: list[str], home: Path) -> dict[str, list[Row]]:
    """Cut the missing splits from train's rows; return them, and what's left of train.

    A breed with too few photos for all splits stays in train.
    """
    hashes = _hash_contents([path for _, path in sorted(rows)], home)
    share = HELD_OUT / (TRAIN + HELD_OUT * len(missing))
    goes: dict[str, str] = {}  # by hash: equal photos stay together, whatever the breed
    for _, photos in groupby(sorted(rows), key=itemgetter(0)):
        new = sorted({hashes[path] for _, path in photos} - goes.keys())
        goes |= dict.fromkeys(new, "train")
        for i, split in enumerate(missing if len(new) > len(missing) else []):
            n = max(1, round(len(new) * share))
            goes |= dict.fromkeys(new[i * n : i * n + n], split)
    return {
        split: [row for row in rows if goes[hashes[row[1]]] == split]
        for split in ("train", *missing)
    }


def _hash_contents(paths: list[Path], home: Path) -> dict[Path, str]:
    """Return a hash of each photo's content; the home keeps them for the next time."""
    stamps = [store.file_signature(path, home) for path in paths]
    file = home / "hashes" / f"{store.fingerprint(stamps)}.npz"
    hashes = store.load_arrays(file).get("hashes")
    if not hashes:
        with ThreadPool() as pool:
            made = pool.imap(_hash_content, paths)
            hashes = list(progress(made, len(paths), "hashes"))
        store.save_arrays(file, {"hashes": hashes})
    return dict(zip(paths, hashes, strict=True))


def _hash_content(path: Path) -> str:
    """Return a hash of a photo's content, or of its path if it can't be opened."""
    with suppress(OSError):
        if os.path.isfile(path):  # a pipe would wait forever
            return store.fingerprint_file(path)
    return store.fingerprint(str(path))
