"""Step 5, prediction: any photo through all steps, with a layer and its module."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dogtl.base import why
from dogtl.bottlenecks import check_finite, read_square
from dogtl.linear import LinearLayer, check_module
from dogtl.modules import Module
from dogtl.photos import UnreadablePhoto
from dogtl.squares import square_jpeg


def predict(
    layer: LinearLayer, module: Module, photos: Sequence[str | Path], top: int = 5
) -> list[dict]:
    """Predict the breeds of any photos.

    Parameters
    ----------
    layer : LinearLayer
        As `train` or `fit` returns it.
    module : Module
        The module that the layer was trained with.
    photos : sequence of str or Path
        The photos' files.
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
        If the layer was trained with another module.

    Examples
    --------
    >>> photos, module = dogtl.load_photos("kennel"), dogtl.load_module("toy")
    >>> layer = dogtl.train(dogtl.extract(dogtl.square(photos, module.size), module))
    >>> (result,) = dogtl.predict(layer, module, photos.paths["test"][:1])
    >>> result["predictions"][0]["breed"]
    '001.Afghan_hound'
    """
    check_module(layer, module.name, module.fingerprint)
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about odd metadata
        return [_predict_one(layer, module, photo, top) for photo in photos]


def _predict_one(
    layer: LinearLayer, module: Module, photo: str | Path, top: int
) -> dict:
    try:
        jpeg = square_jpeg(photo, module.size)
    except (OSError, UnreadablePhoto) as error:
        return {"photo": str(photo), "error": why(error)}
    square = read_square(io.BytesIO(jpeg))  # a JPEG, as what the layer was trained on
    features = module(square[None].astype(np.float32) / 255)
    check_finite(features, [photo], module.name)
    (row,) = layer.probabilities(features)
    predictions = [
        {"breed": layer.breeds[i], "probability": float(row[i])}
        for i in np.argsort(-row, kind="stable")[:top]
    ]
    return {"photo": str(photo), "predictions": predictions}
