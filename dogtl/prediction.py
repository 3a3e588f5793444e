"""Step 5, prediction: any photo through all steps, with a layer and its module."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dogtl.bottlenecks import BATCH, check_finite, read_square
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
    results = []
    for start in range(0, len(photos), BATCH):
        results += _predict_batch(layer, module, photos[start : start + BATCH], top)
    return results


def _predict_batch(
    layer: LinearLayer, module: Module, photos: Sequence[str | Path], top: int
) -> list[dict]:
    results, squares = [{"photo": str(photo)} for photo in photos], []
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about odd metadata
        for result in results:
            try:
                # through a JPEG, as the squares that the layer was trained on
                jpeg = io.BytesIO(square_jpeg(result["photo"], module.size))
                squares.append(read_square(jpeg))
            except UnreadablePhoto as error:
                result["error"] = str(error)
            except OSError as error:
                result["error"] = error.strerror or str(error)
    good = [result for result in results if "error" not in result]
    if good:
        features = module(np.stack(squares).astype(np.float32) / 255)
        check_finite(features, [result["photo"] for result in good], module.name)
        for result, row in zip(good, layer.probabilities(features), strict=True):
            order = np.argsort(-row, kind="stable")[:top]
            result["predictions"] = [
                {"breed": layer.breeds[i], "probability": float(row[i])} for i in order
            ]
    return results
