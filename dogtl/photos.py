"""Photos: find them, list them, and read any of them as an upright RGB image."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dogtl import download, store
from dogtl.base import DogtlError, choose, is_word, progress

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = {
    "train": ("train",),
    "valid": ("valid", "validation", "val"),
    "test": ("test",),
}
DOGS = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
# Without a list Pillow would hand EPS files to Ghostscript, a program.
FORMATS = "JPEG PNG WEBP AVIF GIF TIFF BMP PPM JPEG2000 TGA".split()  # noqa: SIM905

TOY = Path(__file__).with_name("toy")
DRAWN_BY = [str(TOY / f"{name}.py") for name in ("brush", "scenery", "kennel")]
KENNEL = f"kennel-{store.code_version(*DRAWN_BY, 'pillow', 'numpy')}"


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
        counts = ", ".join(
            f"{len(paths)} {split}" for split, paths in self.paths.items()
        )
        n_skipped = sum(map(len, self.skipped.values()))
        return f"{counts} photos, {len(self.breeds)} breeds, {n_skipped} skipped"

    def _repr_html_(self) -> str:
        rows = [("split", "photos", "skipped")]
        for split, paths in self.paths.items():
            rows.append((split, len(paths), len(self.skipped[split])))
        cells = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


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
        return list_photos(Path(name), name)
    if name == "kennel":
        return list_photos(_draw_kennel(store.find_home(home)), name)
    if name == "dogs":
        return list_photos(_fetch_dogs(store.find_home(home)), name)
    raise DogtlError(
        f"there are no photos called {name!r}: choose kennel, dogs or a folder (a path"
        " holds a /, as in ./mine)"
    )


def list_photos(folder: Path, name: str) -> Photos:
    """Return the photos in train|valid|test / breed / file, without opening any.

    Hidden files are passed over. Raises DogtlError, in one sentence, if a split is
    missing or empty, if train has fewer than two breeds, or if another split has a
    breed that train lacks.
    """
    if not folder.is_dir():
        raise DogtlError(f"there is no folder {folder}: give one that holds train/")
    folders = {split: _split_folder(folder, split) for split in SPLITS}
    breeds = [
        entry.name for entry in _visible(folders["train"]) if os.path.isdir(entry)
    ]
    if len(breeds) < 2:
        raise DogtlError(
            f"{folders['train']} holds {len(breeds)} breed folder(s): put the photos of"
            " at least two breeds there, a folder each"
        )
    numbers = {breed: number for number, breed in enumerate(breeds)}
    photos = Photos(name, folder, breeds, {}, {}, {})
    for split, place in folders.items():
        paths, skipped = _list_split(place, breeds)
        labels = [numbers[path.parent.name] for path in paths]
        photos.paths[split], photos.skipped[split] = paths, skipped
        photos.labels[split] = np.array(labels, dtype=np.int64)
        used = set(labels)
        empty = [place / breed for breed in breeds if numbers[breed] not in used]
        if not paths or (empty and split == "train"):
            raise DogtlError(
                f"{empty[0] if paths else place} holds no photos: put some there"
            )
    return photos


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
    ('RGB', (584, 439))
    """
    from PIL import Image, UnidentifiedImageError

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it isn't a file")
    Image.init()  # which finds the formats that this Pillow knows
    known = [name for name in FORMATS if name in Image.OPEN]  # AVIF since Pillow 11.3
    try:
        data = Path(path).read_bytes()
        with Image.open(io.BytesIO(data), formats=known) as image:
            if short_side:
                image.draft(None, (short_side, short_side))
            image.load()
            return _to_rgb(_upright(image))
    except MemoryError:
        raise OSError(errno.ENOMEM, "there isn't enough memory for it") from None
    except UnidentifiedImageError:
        raise UnreadablePhoto("it isn't an image that Pillow can read") from None
    except Exception as error:  # decoders raise nearly anything on broken files
        if getattr(error, "errno", None):  # it's the file that can't be read
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadablePhoto(reason) from error


def _upright(image: Image) -> Image:
    """Turn an image as its EXIF orientation says; broken EXIF data turns nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are fine all the same
        return image


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


def _draw_kennel(home: Path) -> Path:
    """Draw the kennel where it isn't there; whatever is drawn already stays."""
    folder = home / "photos" / KENNEL
    finished = folder / ".finished"
    if not finished.exists():
        from dogtl.toy.kennel import draw_kennel

        draw_kennel(folder, progress=progress)
        store.sweep(folder)
        store.atomic_write(finished, b"")
    return folder


def _fetch_dogs(home: Path) -> Path:
    """Fetch Udacity's dogs, or what ``DOGTL_DOGS_URL`` names: an address or a path."""
    given = choose(None, "DOGTL_DOGS_URL", DOGS)
    if "://" not in given:
        given = os.path.abspath(given)  # mine.zip is no word, but a path
    if os.path.isdir(given):
        return Path(given)
    facts = os.stat(given) if os.path.isfile(given) else None
    stamp = [facts.st_size, facts.st_mtime_ns] if facts else []
    name = "dogs" if given == DOGS else f"dogs-{store.fingerprint(given, stamp)}"
    return download.fetch_folder(given, home / "photos" / name)


def _split_folder(folder: Path, split: str) -> Path:
    found = [folder / name for name in SPLITS[split] if (folder / name).is_dir()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(SPLITS[split])
    if found:
        raise DogtlError(f"{folder} holds more than one of {names}: keep one of them")
    raise DogtlError(f"{folder} holds no folder {names}: put the {split} photos there")


def _list_split(folder: Path, breeds: list[str]) -> tuple[list[Path], dict[Path, str]]:
    """Return the photos in the breeds' folders, and what lies in the wrong place."""
    paths, skipped = [], {}
    for entry in _visible(folder):
        if not os.path.isdir(entry):
            skipped[Path(entry)] = "it isn't inside a breed's folder"
            continue
        if entry.name not in breeds:
            raise DogtlError(
                f"{folder} holds a breed that train lacks, {entry.name}: add it to"
                " train or take it away"
            )
        for photo in _visible(entry):
            if os.path.isfile(photo):
                paths.append(Path(photo))
            else:
                skipped[Path(photo)] = "it isn't a file in the breed's folder"
    return paths, skipped


def _visible(folder: os.PathLike) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: entry.name)
