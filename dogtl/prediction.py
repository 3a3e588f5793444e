"""Step 5, prediction: any photo through all steps, with a layer and its module."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dogtl.base import DogtlError, error_text
from dogtl.bottlenecks import BATCH, READERS, SHARD, check_finite, read_square
from dogtl.linear import LinearLayer, check_module
from dogtl.modules import Module
from dogtl.photos import FORMATS, UnreadablePhoto
from dogtl.squares import square_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image

    Photo = str | Path | Image

UNSUPPORTED = {".heic", ".heif"}  # can't be read, which is said rather than passed over


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
        Files, folders and images. In a folder, and in the ones below, all files count
        whose name ends as an image's does, in order, less the hidden ones.
    top : int, optional
        How many breeds to name, the top probable first.

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
    """Yield what `predict` returns; other threads read the photos to come."""
    if layer is not module:  # an exported model is both
        check_module(layer, module.name, module.fingerprint)
    if top < 1:
        raise DogtlError(f"the top {top} breeds are none: ask for 1 or more")
    found, read = _find_photos(photos), partial(_read, size=module.size)
    # Pillow warns about odd metadata
    with warnings.catch_warnings(action="ignore"), ThreadPool(READERS) as pool:
        while some := list(islice(found, SHARD)):  # or all would be read ahead
            results = pool.imap(read, some)
            while batch := list(islice(results, BATCH)):
                _name_breeds(layer, module, batch, top)
                yield from batch


def _find_photos(photos: Photo | Iterable[Photo]) -> Iterator[tuple[str, Photo]]:
    """Yield each photo with its name; a folder's in its place."""
    one = isinstance(photos, str | Path) or not isinstance(photos, Iterable)
    for number, photo in enumerate([photos] if one else photos, start=1):
        if isinstance(photo, str | Path):
            found = _images_below(Path(photo)) if os.path.isdir(photo) else []
            yield from ((str(path), path) for path in found or [photo])
        else:
            yield str(getattr(photo, "filename", "") or f"image {number}"), photo


def _images_below(folder: Path) -> list[Path]:
    from PIL import Image

    kinds = Image.registered_extensions().items()
    suffixes = {
        suffix for suffix, kind in kinds if kind in FORMATS.split()
    } | UNSUPPORTED
    found = []  # with the folders that can't be listed, to be named
    walk = os.walk(folder, onerror=lambda error: found.append(Path(error.filename)))
    for place, folders, files in walk:
        folders[:] = [name for name in folders if name[0] != "."]
        paths = [Path(place, name) for name in files if name[0] != "."]
        found += [path for path in paths if path.suffix.lower() in suffixes]
    return sorted(found)


def _read(photo: tuple[str, Photo], size: int) -> dict:
    """Return a result to be: a photo's name, and its square or why there is none."""
    name, source = photo
    try:
        jpeg = square_jpeg(source, size)
    except (OSError, UnreadablePhoto) as error:
        return {"photo": name, "error": error_text(error)}
    # a JPEG, as what the layer was trained on
    return {"photo": name, "square": read_square(io.BytesIO(jpeg))}


def _name_breeds(layer: LinearLayer, module: Module, batch: list[dict], top: int):
    """Put predictions where a batch of results holds squares."""
    good = [result for result in batch if "square" in result]
    if not good:
        return
    squares = np.stack([result.pop("square") for result in good])
    features = module(squares.astype(np.float32) / 255)
    check_finite(features, [result["photo"] for result in good], module.name)
    for result, row in zip(good, layer.probabilities(features), strict=True):
        result["predictions"] = [
            {"breed": layer.breeds[i], "probability": float(row[i])}
            for i in np.argsort(-row, kind="stable")[:top]
        ]
