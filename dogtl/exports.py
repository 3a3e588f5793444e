"""Exports: module and linear layer as one model, which needs neither dogtl nor a home.

Its folder holds a SavedModel, from squares to probabilities, with `model.json` (what it
names, and what it was made from), a model card and, if asked for, a TFLite file.
"""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np

from dogtl import __version__, prediction
from dogtl.base import KERAS, MAX_SIZE, DogtlError, error_text
from dogtl.evaluation import Evaluation
from dogtl.frameworks import import_tensorflow, quietly
from dogtl.linear import LinearLayer, check_module
from dogtl.modules import MODULES, Module, fingerprint_folder, load_network
from dogtl.store import temporary_path, temporary_paths_of

CARD = Path(__file__).with_name("model_card.md")
FILES = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}
FILES |= {"model.json", "README.md", "model.tflite"}
MADE_BY, COSTS = "dogtl export", ("n_parameters", "multiply_adds")
LIBRARIES = ("tensorflow", "keras", "numpy", "pillow")


@dataclass(frozen=True, eq=False, repr=False)
class Model(Module):
    """An exported model, to be called with squares as a module is.

    Its features are probabilities already, float32 [batch, breeds]. So it's a module
    and its own layer, and `predict` takes it as both.

    Attributes
    ----------
    breeds : list of str
        The classes, in the columns' order.
    facts : dict
        What `model.json` holds.
    """

    breeds: list[str]
    facts: dict

    @property
    def module(self) -> dict[str, str]:
        """The module that it belongs to as a layer: itself."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def predict(self, photos, top: int = 5) -> list[dict]:
        """Predict the breeds of photos; takes and returns what `dogtl.predict` does."""
        return prediction.predict(self, self, photos, top)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the features as they are."""
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

    ``tf.saved_model.load(folder)`` takes float32 RGB squares [batch, size, size, 3]
    with values from 0 to 1, and gives probabilities [batch, breeds]. The folder
    appears whole. An earlier export there is replaced, anything else isn't.

    Parameters
    ----------
    layer : LinearLayer
        As `train` or `fit` returns it.
    module : Module
        The module that the layer was trained with.
    folder : str or Path
        The folder to make.
    evaluation : Evaluation, optional
        How good the layer is, to be said there.
    tflite : bool, optional
        Whether to write ``model.tflite`` as well, for phones.
    photos : str, optional
        What to call the photos that the layer was trained on.

    Returns
    -------
    Path
        The folder, which `load_model` reads.

    Raises
    ------
    DogtlError
        If the layer was trained with another module, something else is in the folder,
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
    facts = _facts(layer, module, evaluation, photos)
    part, old = temporary_path(folder), temporary_path(folder)
    part.mkdir(parents=True)
    try:
        _save_network(layer, module, part, tflite)
        (part / "model.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        (part / "README.md").write_text(_card(facts, tflite), "utf-8")
        if folder.exists():
            folder.replace(old)
        part.replace(folder)
    except BaseException:  # Control-C too: what was there stays
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise
    finally:  # what a killed export left is swept, too
        for rest in temporary_paths_of(folder):
            shutil.rmtree(rest, ignore_errors=True)
    return folder


def load_model(folder: str | Path) -> Model:
    """Return an exported model; it needs neither the photos nor the module's files.

    Parameters
    ----------
    folder : str or Path
        What `export` wrote.

    Returns
    -------
    Model
        The model: ``model.predict(photos)`` is `predict` with it, and
        ``model(squares)`` gives probabilities.

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
    facts = _read_facts(folder)
    if not facts:
        raise DogtlError(f"{folder} holds no model: give one that dogtl export wrote")
    breeds, size = facts["labels"], facts["size"]
    costs = [facts["module"].get(name, 0) for name in COSTS]
    about = (size, len(breeds), *costs, f"{fingerprint_folder(folder)}-{size}")
    return Model(str(folder), folder, *about, breeds, facts)


def check_folder(folder: str | Path) -> Path:
    """Return a folder's absolute path, if an export may be written there."""
    folder = Path(os.path.realpath(os.path.expanduser(folder)))
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    is_export = names <= FILES and _read_facts(folder)
    if folder.is_file() or (names and not is_export):
        raise DogtlError(
            f"{folder} exists and isn't just an export: give another folder"
        )
    return folder


def _read_facts(folder: Path) -> dict:
    """Return what an export's `model.json` holds; nothing if it's no export."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        facts = json.loads((folder / "model.json").read_bytes())
        labels, kind = facts["labels"], (facts["made_by"], type(facts["module"]))
        named = type(labels) is list and {type(label) for label in labels} == {str}
        if named and kind == (MADE_BY, dict) and 0 < facts["size"] <= MAX_SIZE:
            return facts
    return {}


def _facts(
    layer: LinearLayer, module: Module, evaluation: Evaluation | None, photos
) -> dict:
    """Return what `model.json` says; no path of this machine is in it."""
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
            **{name: getattr(module, name) for name in ("fingerprint", *COSTS)},
        },
        "versions": {"dogtl": __version__} | {lib: version(lib) for lib in LIBRARIES},
    }


def _source(name: str) -> tuple[str, str]:
    """Return where a module comes from, and its licence or where to look for it."""
    place, _ = MODULES.get(name, (name, None))
    if "://" in place:
        return place, "see that page"
    if name.startswith(KERAS):
        return "https://keras.io/api/applications", "see that page"
    if name in MODULES:
        return "dogtl itself", "MIT"
    return "a file or folder of that name", "unknown: look where you got it"


def _save_network(layer: LinearLayer, module: Module, folder: Path, tflite: bool):
    """Write module and layer as a SavedModel, and as TFLite if asked for."""
    tf = import_tensorflow()
    model = tf.Module()
    model.network = load_network(module.folder, module.content)
    model.kernel, model.bias = tf.Variable(layer.kernel), tf.Variable(layer.bias)
    shape = [None, module.size, module.size, 3]
    takes = [tf.TensorSpec(shape, tf.float32, "squares")]

    @tf.function(input_signature=takes, autograph=False)
    def probabilities(squares):
        features = tf.cast(model.network(squares), tf.float32)
        return tf.nn.softmax(features @ model.kernel + model.bias)

    @tf.function(input_signature=takes, autograph=False)
    def served(squares):
        return {"probabilities": probabilities(squares)}

    model.__call__ = probabilities
    try:
        with quietly():
            tf.saved_model.save(model, str(folder), served)
            if tflite:
                converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
                (folder / "model.tflite").write_bytes(converter.convert())
    except Exception as error:  # TensorFlow raises a dozen kinds
        advice = "choose another module" + (", or leave out --tflite" if tflite else "")
        raise DogtlError(
            f"{module.name} can't be exported ({error_text(error)}): {advice}"
        ) from error


def _card(facts: dict, tflite: bool) -> str:
    """Return the model card: the template, filled in."""
    accuracy = "not measured"
    if facts["accuracy"] is not None:
        low, high = (f"{100 * end:.1f}" for end in facts["interval"])
        accuracy = f"{100 * facts['accuracy']:.1f} %, 95 % interval [{low}, {high}]"
        accuracy += f", on {facts['n_photos']} held-out test photos"
    text, phone = CARD.read_text("utf-8").split("<!-- tflite -->\n")
    return Template(text + phone if tflite else text).substitute(
        facts["module"],
        size=facts["size"],
        n=len(facts["labels"]),
        labels=", ".join(facts["labels"]),
        photos=facts["photos"] or "not named",
        accuracy=accuracy,
        versions=", ".join(f"{name} {v}" for name, v in facts["versions"].items()),
    )
