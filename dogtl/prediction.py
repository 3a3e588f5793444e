"""Step 5, prediction: take any photo through all steps, with a layer and its module."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from dogtl.base import DogtlError, error_text
from dogtl.bottlenecks import check_finite, read_in_batches, read_square, to_input
from dogtl.linear import LinearLayer, check_module
from dogtl.modules import Module
from dogtl.photos import PILLOW_FORMATS, UnreadablePhoto
from dogtl.squares import square_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image

Photo: TypeAlias = "str | Path | Image"  # a string, since importing PIL is slow
UNSUPPORTED = {".heic", ".heif"}  # reported as unreadable instead of ignored


class ReadResult(NamedTuple):
    """A photo's name, and its square or the reason why it has none."""

    name: str
    square: np.ndarray | None = None
    error: str = ""


def predict(
    layer: LinearLayer, module: Module, photos: Photo | Iterable[Photo], top: int = 5
) -> list[dict]:
    """Predict the breeds of any photos.

    Parameters
    ----------
    layer : LinearLayer
        As `train` or `fit` returns it.
    module : Module
        The module that the layer was trained with.
    photos : str, Path, PIL.Image.Image, or an iterable of these
        Files, folders and images. A folder, with its subfolders, stands for all files
        with an image's suffix, sorted, except hidden ones.
    top : int, optional
        How many breeds to name, the most probable first.

    Returns
    -------
    list of dict
        For each photo ``{"photo": …, "predictions": [{"breed": …, "probability": …},
        …]}``, or ``{"photo": …, "error": …}`` if it can't be read.

    Raises
    ------
    DogtlError
        If the layer was trained with another module, or `top` is below 1.

    Examples
    --------
    >>> photos, module = dogtl.load_photos("kennel"), dogtl.load_module("toy")
    >>> layer = dogtl.train(dogtl.extract(dogtl.square(photos, module.size), module))
    >>> (result,) = dogtl.predict(layer, module, photos.paths["test"][:1])
    >>> result["predictions"][0]["breed"]
    '001.Afghan_hound'
    """
    return list(predict_each(layer, module, photos, top))


def predict_each(
    layer: LinearLayer, module: Module, photos: Photo | Iterable[Photo], top: int = 5
) -> Iterator[dict]:
    """Yield what `predict` returns; other threads read the next photos."""
    check_module(layer, module.name, module.fingerprint)
    if top < 1:
        raise DogtlError(f"top must be at least 1, not {top}")
    read = partial(_read, size=module.size)
    with warnings.catch_warnings(action="ignore"):  # Pillow warns about odd metadata
        for batch in read_in_batches(read, _find_photos(photos)):
            yield from _predict_batch(layer, module, batch, top)


def _find_photos(photos: Photo | Iterable[Photo]) -> Iterator[tuple[str, Photo]]:
    """Yield each photo with its name, and each image in a folder with its path."""
    is_one = isinstance(photos, str | Path) or not isinstance(photos, Iterable)
    for number, photo in enumerate([photos] if is_one else photos, start=1):
        if isinstance(photo, str | Path):
            paths = _images_below(Path(photo)) if os.path.isdir(photo) else []
            # A folder without images stands for itself: it's reported as unreadable.
            yield from ((str(path), path) for path in paths or [photo])
        else:
            yield str(getattr(photo, "filename", "") or f"image {number}"), photo


def _images_below(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders."""
    from PIL import Image

    known = Image.registered_extensions().items()
    suffixes = {suffix for suffix, name in known if name in PILLOW_FORMATS}
    suffixes |= UNSUPPORTED
    found = []  # includes folders that can't be listed, so that they're reported
    walk = os.walk(folder, onerror=lambda error: found.append(Path(error.filename)))
    for place, folders, files in walk:
        folders[:] = [name for name in folders if name[0] != "."]
        paths = [Path(place, name) for name in files if name[0] != "."]
        found += [path for path in paths if path.suffix.lower() in suffixes]
    return sorted(found)


def _read(photo: tuple[str, Photo], size: int) -> ReadResult:
    """Read a photo, given with its name, and make its square."""
    name, source = photo
    try:
        jpeg = square_jpeg(source, size)
    except (OSError, UnreadablePhoto) as error:
        return ReadResult(name, error=error_text(error))
    # The layer was trained on squares that were saved as JPEG, too.
    return ReadResult(name, square=read_square(io.BytesIO(jpeg)))


def _predict_batch(
    layer: LinearLayer, module: Module, batch: list[ReadResult], top: int
) -> list[dict]:
    """Return the results for a batch of photos."""
    results = [{"photo": photo.name, "error": photo.error} for photo in batch]
    rows = [row for row, photo in enumerate(batch) if photo.square is not None]
    if not rows:
        return results
    features = module(to_input([batch[row].square for row in rows]))
    check_finite(features, [batch[row].name for row in rows], module.name)
    for row, probabilities in zip(rows, layer.probabilities(features), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:top]
        predictions = [
            {"breed": layer.breeds[i], "probability": float(probabilities[i])}
            for i in best
        ]
        results[row] = {"photo": batch[row].name, "predictions": predictions}
    return results
