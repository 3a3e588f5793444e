"""Step 1, squares: cut every photo to its centre square and downsample it."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

from dogtl import photos, store
from dogtl.base import NotSharedError, error_text, log, plural, progress, slug
from dogtl.photos import Photos, UnreadablePhoto, check_complete, read_photo

if TYPE_CHECKING:
    import distributed
    from PIL.Image import Image

CODE = store.code_version(__file__, photos.__file__, "pillow")


@dataclass(frozen=True, eq=False, repr=False)
class Squares(Photos):
    """The readable photos, and their squares.

    The attributes of `Photos` are here too, less the photos that can't be read, which
    are in `skipped`.

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
        squares = plural(len(self.paths["test"]), "square")
        return self._describe(f"{squares} of {self.size} x {self.size} pixels")


def make_square(photo: Image, size: int) -> Image:
    """Return the centre square of an image, downsampled to `size` x `size` pixels.

    If an odd number of pixels must go, one more goes on the right or at the bottom.
    Lanczos filtering blurs patterns that are too fine instead of turning them into
    coarse ones. Images that are too small are enlarged.

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
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    box = (left, top, left + side, top + side)
    return photo.resize((size, size), Resampling.LANCZOS, box, reducing_gap=3.0)


def square_jpeg(photo: str | Path | Image, size: int) -> bytes:
    """Return the square of a photo as the bytes of a JPEG.

    Its quality is 95, with full colour resolution. Raises what `read_photo` does.
    """
    square = make_square(read_photo(photo, short_side=2 * size), size)
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return buffer.getvalue()


def square(
    photos: Photos,
    size: int,
    home: Path | None = None,
    client: distributed.Client | None = None,
) -> Squares:
    """Make the squares of all photos that aren't there yet, on all cores.

    Photos that can't be read are skipped and named in a warning.

    Parameters
    ----------
    photos : Photos
        As `load_photos` returns them.
    size : int
        The squares' side in pixels: the module's `size`.
    home : Path, optional
        The folder for everything generated; unless given ``DOGTL_HOME``, else ``data``.
    client : distributed.Client, optional
        A Dask cluster whose workers do it; the home must lie where all see it.

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
    squares = Squares(photos.name, photos.folder, photos.breeds, {}, {}, {}, size, {})
    for split, paths in photos.paths.items():
        files = square_files(photos, split, size, home)
        reasons = _make_missing(files, size, split, home, client)
        made = [path not in reasons for path in paths]
        squares.paths[split] = [path for path in paths if path not in reasons]
        squares.files[split] = [files[path] for path in squares.paths[split]]
        squares.labels[split] = photos.labels[split][made]
        squares.skipped[split] = photos.skipped[split] | reasons
        for path, reason in squares.skipped[split].items():
            log.warning("skipped %s: %s", os.path.relpath(path, photos.folder), reason)
    check_complete(squares)
    return squares


def square_files(photos: Photos, split: str, size: int, home: Path) -> dict[Path, Path]:
    """Return where the squares of a split's photos lie, by photo."""
    folders = [home / "squares" / str(size) / slug(breed) for breed in photos.breeds]
    rows = zip(photos.paths[split], photos.labels[split], strict=True)
    return {path: _square_file(path, folders[label], home) for path, label in rows}


def _square_file(path: Path, folder: Path, home: Path) -> Path:
    """Return where a photo's square lies.

    The hash in its name is of the photo's path, size and time.
    """
    key = store.fingerprint(f"{CODE} {store.file_signature(path, home)}")
    return folder / f"{slug(path.stem)}-{key}.jpg"


def _make_missing(
    files: dict[Path, Path], size: int, split: str, home: Path, client
) -> dict[Path, str]:
    """Make the squares that aren't there; return why, for each photo that has none.

    Nothing of that is stored: a right may be given later, and decoders call a lack of
    memory a broken file.
    """
    there = {f for f in files.values() if os.path.exists(f) and os.path.getsize(f)}
    jobs = [(path, file, size) for path, file in files.items() if file not in there]
    if not jobs:
        log.info("%s squares: nothing to do", split)
        return {}
    make = _make if client is None else partial(_make_if_same_photo, home)
    with warnings.catch_warnings(action="ignore"), make_pool(client, home) as pool:
        made = progress(pool.imap(make, jobs), len(jobs), f"{split} squares")
        rows = list(zip(jobs, made, strict=True))
    store.sweep(home / "squares" / str(size))
    return {path: reason for (path, *_), reason in rows if reason}


def make_pool(client, home: Path):
    """Return a pool: this machine's threads, or the workers of a cluster."""
    if client is None:
        return ThreadPool()
    from dogtl.cluster import Pool

    return Pool(client, home)


def _make(job: tuple[Path, Path, int]) -> str:
    """Make one square; return "", or why there is none."""
    path, file, size = job
    try:
        jpeg = square_jpeg(path, size)
    except (OSError, UnreadablePhoto) as error:
        return error_text(error)
    store.atomic_write(file, jpeg, sync=False)  # an empty one is made again
    return ""


def _make_if_same_photo(home: Path, job: tuple[Path, Path, int]) -> str:
    """Make one square on another machine, if the photo is the same there."""
    path, file, _ = job
    if _square_file(path, file.parent, home) != file:
        raise NotSharedError(path.parent)
    return _make(job)
