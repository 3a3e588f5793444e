"""Step 1, squares: crop every photo to its centre square and downsample it."""

from __future__ import annotations

import errno
import io
import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dogtl import photos, store
from dogtl.base import error_text, log, progress, slug
from dogtl.parallel import imap, not_shared
from dogtl.photos import Photos, UnreadablePhoto, check_complete, read_photo

if TYPE_CHECKING:
    from PIL.Image import Image

CODE = store.code_version(__file__, photos.__file__, "pillow")


@dataclass(frozen=True, eq=False, repr=False)
class Squares(Photos):
    """The readable photos, and their squares.

    It has the attributes of `Photos`, too. Photos that can't be read are in `skipped`.

    Attributes
    ----------
    size : int
        The squares' side in pixels.
    files : dict of str to list of Path
        The squares of each split: JPEGs, in the order of `paths`.
    """

    size: int
    files: dict[str, list[Path]]

    def __repr__(self) -> str:
        return self._describe(f"squares of {self.size} x {self.size} pixels")


def make_square(photo: Image, size: int) -> Image:
    """Return the centre square of an image, downsampled to `size` x `size` pixels.

    If an odd number of pixels is cut off, the right or the bottom loses one more.
    Lanczos filtering blurs patterns that are too fine, where skipping pixels would turn
    them into coarse ones. Images that are too small are enlarged.

    Parameters
    ----------
    photo : PIL.Image.Image
        An image of any shape.
    size : int
        The square's side in pixels.

    Returns
    -------
    PIL.Image.Image
        Of the same mode as `photo`.

    Examples
    --------
    >>> from PIL import Image
    >>> dogtl.make_square(Image.new("RGB", (640, 480)), 112).size
    (112, 112)
    """
    from PIL.Image import Resampling

    side = min(photo.size)
    left = (photo.width - side) // 2
    top = (photo.height - side) // 2
    box = (left, top, left + side, top + side)
    return photo.resize((size, size), Resampling.LANCZOS, box, reducing_gap=3.0)


def square_jpeg(photo: str | Path | Image, size: int) -> bytes:
    """Return the square of a photo as the bytes of a JPEG.

    Its quality is 95, with full colour resolution. Raises what `read_photo` does.
    """
    buffer = io.BytesIO()
    try:
        square = make_square(read_photo(photo, short_side=2 * size), size)
        square.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    except MemoryError:
        raise OSError(errno.ENOMEM, "there isn't enough memory for it") from None
    return buffer.getvalue()


def square(photos: Photos, size: int, home: Path | None = None, client=None) -> Squares:
    """Make the squares of all photos, except those made before, on all cores.

    Photos that can't be read are skipped and named in a warning.

    Parameters
    ----------
    photos : Photos
        As `load_photos` returns them.
    size : int
        The squares' side in pixels: the module's `size`.
    home : Path, optional
        The folder for everything generated; defaults to ``DOGTL_HOME``, then ``data``.
    client : distributed.Client, optional
        A Dask cluster to use. The home must be on storage that all workers share.

    Returns
    -------
    Squares
        The squares' files by split.

    Raises
    ------
    DogtlError
        If a split has no photo that can be read.

    Examples
    --------
    >>> dogtl.square(dogtl.load_photos("kennel"), 112)
    480 train, 120 valid, 240 test squares of 112 x 112 pixels, 12 breeds, 0 skipped
    """
    home = store.find_home(home)
    paths, labels, skipped, files = {}, {}, {}, {}
    for split in photos.paths:
        square_of = square_files(photos, split, size, home)
        failed = _make_missing(square_of, size, split, home, client)
        is_readable = [path not in failed for path in photos.paths[split]]
        paths[split] = [path for path in photos.paths[split] if path not in failed]
        labels[split] = photos.labels[split][is_readable]
        skipped[split] = photos.skipped[split] | failed
        files[split] = [square_of[path] for path in paths[split]]
        for path, reason in skipped[split].items():
            log.warning("skipped %s: %s", os.path.relpath(path, photos.folder), reason)
    squares = Squares(
        name=photos.name,
        folder=photos.folder,
        breeds=photos.breeds,
        paths=paths,
        labels=labels,
        skipped=skipped,
        size=size,
        files=files,
    )
    check_complete(squares)
    return squares


def square_files(photos: Photos, split: str, size: int, home: Path) -> dict[Path, Path]:
    """Return the file of each photo's square in a split; it may not exist yet."""
    folders = [home / "squares" / str(size) / slug(breed) for breed in photos.breeds]
    rows = zip(photos.paths[split], photos.labels[split], strict=True)
    return {path: _square_file(path, folders[label], home) for path, label in rows}


def _square_file(path: Path, folder: Path, home: Path) -> Path:
    """Return the file of a photo's square, named by the photo's path, size and time."""
    key = store.fingerprint(f"{CODE} {store.file_signature(path, home)}")
    return folder / f"{slug(path.stem)}-{key}.jpg"


def _make_missing(
    square_of: dict[Path, Path], size: int, split: str, home: Path, client
) -> dict[Path, str]:
    """Make the squares that don't exist yet; return the reason for each that fails.

    Failures aren't cached: permissions may change, and out-of-memory can look like a
    broken file.
    """
    jobs = [
        (path, file, size)
        for path, file in square_of.items()
        if not (os.path.exists(file) and os.path.getsize(file))
    ]
    if not jobs:
        log.info("%s squares: nothing to do", split)
        return {}
    make = _make if client is None else partial(_make_if_same_photo, home)
    with warnings.catch_warnings(action="ignore"):
        results = imap(make, jobs, client, home)
        results = progress(results, len(jobs), f"{split} squares")
        reasons = dict(zip([path for path, *_ in jobs], results, strict=True))
    store.sweep(home / "squares" / str(size))
    return {path: reason for path, reason in reasons.items() if reason}


def _make(job: tuple[Path, Path, int]) -> str:
    """Make one square; return the reason if that fails, else an empty string."""
    path, file, size = job
    try:
        jpeg = square_jpeg(path, size)
    except (OSError, UnreadablePhoto) as error:
        return error_text(error)
    # A power cut may leave an empty file, which _make_missing remakes.
    store.atomic_write(file, jpeg, sync=False)
    return ""


def _make_if_same_photo(home: Path, job: tuple[Path, Path, int]) -> str:
    """Make one square on another machine, if it sees the same photo."""
    path, file, _ = job
    if _square_file(path, file.parent, home) != file:
        raise not_shared(path.parent)
    return _make(job)
