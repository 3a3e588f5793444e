"""Exports: module and linear layer as one model, which needs neither dogtl nor a home.

An export's folder holds a SavedModel that turns squares into probabilities, its
metadata in `model.json`, a model card and, if asked for, a TFLite file.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from dogtl import __version__, prediction
from dogtl.base import KERAS, MAX_SIZE, DogtlError, explain_errors
from dogtl.evaluation import Evaluation
from dogtl.frameworks import import_tensorflow, quietly
from dogtl.linear import LinearLayer, check_module
from dogtl.modules import (
    MODULES,
    Module,
    fingerprint_folder,
    join_fingerprint,
    load_network,
)
from dogtl.store import temporary_path, temporary_paths_of
from dogtl.terminal import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dogtl.prediction import Photo

CARD = Path(__file__).with_name("model_card.md")
MADE_BY = "dogtl export"
FILES = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}  # TensorFlow's
FILES |= {"model.json", "README.md", "model.tflite"}
LIBRARIES = ("tensorflow", "keras", "numpy", "pillow")


@dataclass(frozen=True, eq=False, repr=False)
class Model(Module):
    """An exported model, which turns squares into probabilities when it's called.

    The layer is part of its network, so one object is both module and layer: as the
    module it returns probabilities, and as the layer it passes them on.

    Attributes
    ----------
    breeds : list of str
        The classes, in the columns' order.
    facts : dict
        The metadata in `model.json`.
    """

    breeds: list[str]
    facts: dict

    @property
    def module(self) -> dict[str, str]:
        """The module that it belongs to as a layer: itself."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def predict(self, photos: Photo | Iterable[Photo], top: int = 5) -> list[dict]:
        """Predict the breeds of photos, as `dogtl.predict` does."""
        return prediction.predict(layer=self, module=self, photos=photos, top=top)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the features, which are probabilities already."""
        return features


def export(
    layer: LinearLayer,
    module: Module,
    folder: str | Path,
    evaluation: Evaluation | None = None,
    tflite: bool = False,
    photos: str | None = None,
) -> Path:
    """Write module and linear layer as one model, which plain TensorFlow loads.

    ``tf.saved_model.load(folder)`` returns the model. It takes float32 RGB squares
    [batch, size, size, 3] with values from 0 to 1, and returns probabilities [batch,
    breeds]. The folder appears only when it's complete. An earlier export there is
    replaced; other files never are.

    Parameters
    ----------
    layer : LinearLayer
        As returned by `train` or `fit`.
    module : Module
        The module that the layer was trained with.
    folder : str or Path
        The folder to write.
    evaluation : Evaluation, optional
        The layer's evaluation, for the model card.
    tflite : bool, optional
        Whether to write ``model.tflite`` too, for phones.
    photos : str, optional
        A name for the photos that the layer was trained on.

    Returns
    -------
    Path
        The folder, which `load_model` reads.

    Raises
    ------
    DogtlError
        If the layer was trained with another module, the folder contains other files,
        or TensorFlow can't write the model.

    Examples
    --------
    >>> import tempfile
    >>> photos, module = dogtl.load_photos("kennel"), dogtl.load_module("toy")
    >>> layer = dogtl.train(dogtl.extract(dogtl.square(photos, module.size), module))
    >>> folder = dogtl.export(layer, module, Path(tempfile.mkdtemp()) / "kennel")
    >>> sorted(file.name for file in folder.glob("*.*"))
    ['README.md', 'fingerprint.pb', 'model.json', 'saved_model.pb']
    """
    check_module(layer, module.name, module.fingerprint)
    folder = check_folder(folder)
    metadata = _metadata(layer, module, evaluation, photos)
    new = temporary_path(folder)
    old = temporary_path(folder)
    new.mkdir(parents=True)
    try:
        _save_network(layer, module, new, tflite)
        (new / "model.json").write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")
        (new / "README.md").write_text(_card(metadata, tflite), "utf-8")
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except BaseException:  # also after Control-C: put the earlier export back
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise
    finally:  # also delete what an export that was killed has left
        for rest in temporary_paths_of(folder):
            shutil.rmtree(rest, ignore_errors=True)
    return folder


def load_model(folder: str | Path) -> Model:
    """Return an exported model; it needs neither the photos nor the module's files.

    Parameters
    ----------
    folder : str or Path
        A folder that `export` wrote.

    Returns
    -------
    Model
        The model: ``model.predict(photos)`` returns what `predict` does, and
        ``model(squares)`` returns probabilities.

    Raises
    ------
    DogtlError
        If the folder isn't an export.

    Examples
    --------
    >>> import tempfile
    >>> photos, module = dogtl.load_photos("kennel"), dogtl.load_module("toy")
    >>> layer = dogtl.train(dogtl.extract(dogtl.square(photos, module.size), module))
    >>> folder = dogtl.export(layer, module, Path(tempfile.mkdtemp()) / "kennel")
    >>> (result,) = dogtl.load_model(folder).predict(photos.paths["test"][:1])
    >>> result["predictions"][0]["breed"]
    '001.Afghan_hound'
    """
    folder = Path(os.path.realpath(os.path.expanduser(folder)))
    metadata = _read_metadata(folder)
    if not metadata:
        raise DogtlError(f"{folder} holds no model: give one that dogtl export wrote")
    size = metadata["size"]
    return Model(
        name=str(folder),
        folder=folder,
        size=size,
        n_features=len(metadata["labels"]),
        n_parameters=metadata["module"].get("n_parameters", 0),
        multiply_adds=metadata["module"].get("multiply_adds", 0),
        fingerprint=join_fingerprint(fingerprint_folder(folder), size),
        breeds=metadata["labels"],
        facts=metadata,
    )


def check_folder(folder: str | Path) -> Path:
    """Return a folder's absolute path, if an export may be written there."""
    folder = Path(os.path.realpath(os.path.expanduser(folder)))
    if folder.is_file():
        raise DogtlError(f"{folder} exists and is a file: give another folder")
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    is_export = names <= FILES and _read_metadata(folder)
    if names and not is_export:
        raise DogtlError(
            f"{folder} exists and contains other files: give another folder"
        )
    return folder


def _read_metadata(folder: Path) -> dict:
    """Return an export's metadata; nothing if the folder isn't an export."""
    file = folder / "model.json"
    if not file.is_file():  # reading a pipe would block
        return {}
    try:
        metadata = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(metadata, dict) or metadata.get("made_by") != MADE_BY:
        return {}
    labels, size = metadata.get("labels"), metadata.get("size")
    is_complete = (
        isinstance(metadata.get("module"), dict)
        and isinstance(labels, list)
        and {type(label) for label in labels} == {str}  # so there's at least one
        and type(size) is int
        and 0 < size <= MAX_SIZE
    )
    return metadata if is_complete else {}


def _metadata(
    layer: LinearLayer,
    module: Module,
    evaluation: Evaluation | None,
    photos: str | None,
) -> dict:
    """Return what `model.json` will hold; no path of this machine is in it."""
    source, licence = _source(module.name)
    return {
        "made_by": MADE_BY,
        "labels": list(layer.breeds),
        "size": module.size,
        "accuracy": evaluation and evaluation.accuracy,
        "interval": evaluation and evaluation.interval,
        "n_photos": evaluation and len(evaluation.labels),
        "photos": photos,
        "module": {
            "name": module.name if "://" in module.name else module.label,
            "source": source,
            "licence": licence,
            "fingerprint": module.fingerprint,
            "n_parameters": module.n_parameters,
            "multiply_adds": module.multiply_adds,
        },
        "versions": {"dogtl": __version__} | {lib: version(lib) for lib in LIBRARIES},
    }


def _source(name: str) -> tuple[str, str]:
    """Return where a module comes from, and its licence or where to find it."""
    place, _ = MODULES.get(name, (name, None))
    if "://" in place:
        return place, "see that page"
    if name.startswith(KERAS):
        return "https://keras.io/api/applications", "see that page"
    if name in MODULES:
        return "dogtl itself", "MIT"
    return "a file or folder of that name", "unknown: check where you got it from"


def _save_network(
    layer: LinearLayer, module: Module, folder: Path, tflite: bool
) -> None:
    """Write module and layer as a SavedModel, and as TFLite if asked for."""
    tf = import_tensorflow()
    model = tf.Module()
    model.network = load_network(module.folder, module.content)
    model.kernel, model.bias = tf.Variable(layer.kernel), tf.Variable(layer.bias)
    shape = [None, module.size, module.size, 3]
    signature = [tf.TensorSpec(shape, tf.float32, "squares")]

    @tf.function(input_signature=signature, autograph=False)
    def probabilities(squares):
        features = tf.cast(model.network(squares), tf.float32)
        return tf.nn.softmax(features @ model.kernel + model.bias)

    @tf.function(input_signature=signature, autograph=False)
    def serving_default(squares):
        return {"probabilities": probabilities(squares)}

    model.__call__ = probabilities
    advice = "choose another module" + (", or leave out --tflite" if tflite else "")
    with explain_errors(f"{module.name} can't be exported", advice), quietly():
        tf.saved_model.save(model, str(folder), serving_default)
        if tflite:
            converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
            (folder / "model.tflite").write_bytes(converter.convert())


def _card(metadata: dict, tflite: bool) -> str:
    """Return the model card: the template, filled in."""
    accuracy = "not measured"
    if metadata["accuracy"] is not None:
        low, high = (f"{100 * end:.1f}" for end in metadata["interval"])
        accuracy = f"{100 * metadata['accuracy']:.1f} %, 95 % interval [{low}, {high}]"
        accuracy += f", on {metadata['n_photos']} held-out test photos"
    text, tflite_text = CARD.read_text("utf-8").split("<!-- tflite -->\n")
    return Template(text + tflite_text if tflite else text).substitute(
        {key: markdown(str(value)) for key, value in metadata["module"].items()},
        size=metadata["size"],
        n=len(metadata["labels"]),
        labels=", ".join(map(markdown, metadata["labels"])),
        photos=markdown(metadata["photos"] or "not named"),
        accuracy=accuracy,
        versions=", ".join(f"{name} {v}" for name, v in metadata["versions"].items()),
    )
