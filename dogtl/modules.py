"""Modules: pretrained networks that turn squares into bottlenecks.

A *module* here is a network in TF Hub's SavedModel format, never a Python module: a
pretrained backbone, or feature extractor, without its classifier. Keras' networks are
written in this format at first use.
"""

import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dogtl import base, frameworks, store, toy
from dogtl.base import KERAS, DogtlError, error_text, explain_errors, is_word, log, slug
from dogtl.frameworks import default_keras_config, import_tensorflow, quietly

CODE = store.code_version(__file__, frameworks.__file__, "tensorflow")
FACTS = ("size", "n_features", "n_parameters", "multiply_adds")
KERAS_FILE_ADVICE = (
    "save it from Keras 3 with Keras' own layers only, no Lambda, as a .keras file"
)
KERAS_NAME_ADVICE = (
    "check --size and the network, or run dogtl fetch on a connected machine and copy"
    " its home here"
)

# TF Hub's addresses redirect to Kaggle. Kaggle's own address is given where other
# projects are known to use it. The sizes are from the modules' own pages.
HUB = "https://tfhub.dev/google/imagenet/"
KAGGLE = "https://www.kaggle.com/models/google/"
MODULES = {  # by name: the folder or address, and the size that it was trained on
    "toy": (str(toy.MODULE), 112),
    "toy_small": (str(toy.SIBLINGS / "small"), 112),
    "toy_young": (str(toy.SIBLINGS / "young"), 112),
    "toy_random": ("", 112),  # its folder is made at first use
    "inception_v3": (KAGGLE + "inception-v3/TensorFlow2/feature-vector/2", 299),
    "inception_resnet_v2": (HUB + "inception_resnet_v2/feature_vector/5", 299),
    "mobilenet_v2": (KAGGLE + "mobilenet-v2/TensorFlow2/100-224-feature-vector/2", 224),
    "resnet_v2_50": (KAGGLE + "resnet-v2/TensorFlow2/50-feature-vector/2", 224),
    "efficientnet_v2_s": (HUB + "efficientnet_v2_imagenet21k_s/feature_vector/2", 384),
    "bit_m_r50x1": (KAGGLE + "bit/TensorFlow2/m-r50x1/1", 224),
}


@dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A pretrained network; call it with squares. The first call imports TensorFlow.

    Attributes
    ----------
    name : str
        What was chosen: a known word, a handle or an absolute path.
    folder : Path
        The folder of the SavedModel.
    size : int
        The side of the squares that it takes, in pixels.
    n_features : int
        The length of a bottleneck, or feature vector.
    n_parameters : int
        The number of its weights, all frozen here.
    multiply_adds : int
        The number of multiply-adds for one square; 0 if the network can't be frozen to
        count them.
    fingerprint : str
        A hash of its files (for Keras' networks, of their weights and Keras' version),
        joined with `size`.
    """

    name: str
    folder: Path
    size: int
    n_features: int
    n_parameters: int
    multiply_adds: int
    fingerprint: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the bottlenecks of a batch of squares.

        Parameters
        ----------
        images : ndarray, float32 [batch, size, size, 3]
            RGB squares with values from 0 to 1.

        Returns
        -------
        ndarray, float32 [batch, n_features]
            One row per square.

        Raises
        ------
        DogtlError
            If the network fails, or returns anything but one row per square.
        """
        network = load_network(self.folder, self.content)
        images = np.asarray(images, dtype=np.float32)
        return _call(network, images, self.name, self.n_features)

    def __repr__(self) -> str:
        return (
            f"{self.label}: {self.size} x {self.size} pixels to {self.n_features}"
            f" features, {self.n_parameters:,} parameters, {self.multiply_adds:,}"
            " multiply-adds"
        )

    @property
    def content(self) -> str:
        """The hash of its files, which is part of the fingerprint."""
        return split_fingerprint(self.fingerprint)[0]

    @property
    def label(self) -> str:
        """The last part of the name, for people; for an address, the last three."""
        n_parts = 3 if "://" in self.name else 1
        return "/".join(Path(self.name).parts[-n_parts:])


def join_fingerprint(content: str, size: int) -> str:
    """Return the fingerprint of a module from the hash of its files and its size."""
    return f"{content}-{size}"


def split_fingerprint(fingerprint: str) -> tuple[str, int]:
    """Return the hash of a module's files and its size, from its fingerprint."""
    content, _, size = fingerprint.rpartition("-")
    return content, int(size)


def load_module(
    module: str | Path | None = None, size: int | None = None, home: Path | None = None
) -> Module:
    """Return the chosen module.

    A module from an address is downloaded at first use. A module is loaded here only
    once, to measure its input, its output and its cost; the result is stored.

    Parameters
    ----------
    module : str or Path, optional
        A word in `MODULES`, a folder, a ``.keras`` file, or a handle: an address on TF
        Hub or Kaggle, or ``keras:`` and a class of `keras.applications`, whose weights
        Keras fetches; defaults to ``DOGTL_MODULE``, then ``toy``.
    size : int, optional
        The side of the squares in pixels, for a module that takes any; defaults to
        ``DOGTL_SIZE``, then, for modules in `MODULES`, the size it was trained on.
    home : Path, optional
        The folder for everything generated; defaults to ``DOGTL_HOME``, then ``data``.

    Returns
    -------
    Module
        The module, callable on a batch of squares.

    Raises
    ------
    DogtlError
        If there is no such module, or it doesn't turn images into feature vectors.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> module.size, module.n_features
    (112, 256)
    >>> module(np.zeros((2, 112, 112, 3), np.float32)).shape
    (2, 256)
    """
    name, requested_size = base.choose_module(module), base.choose_size(size)
    home = store.find_home(home)
    handle, trained_size = MODULES.get(name, (name, None))
    for address, size_of_known in MODULES.values():
        if address == handle:  # it may be given by its address
            trained_size = size_of_known
    folder = _find_folder(name, handle, home, requested_size)
    content = fingerprint_folder(folder)
    key = store.fingerprint(CODE, content, requested_size, trained_size)
    file = home / "modules" / f"{key}.npz"
    facts = store.load_arrays(file)
    if not _is_complete(facts):
        network = load_network(folder, content)
        with quietly():
            facts = _inspect(network, name, requested_size, trained_size)
        store.save_arrays(file, facts)
    fingerprint = join_fingerprint(content, facts["size"])
    return Module(name, folder, **facts, fingerprint=fingerprint)


def _is_complete(facts: dict) -> bool:
    """Return whether the stored facts have all names, and integers as values."""
    has_all = set(facts) == set(FACTS)
    return has_all and all(type(value) is int for value in facts.values())


@functools.lru_cache(maxsize=1)
def load_network(folder: Path, content: str) -> Callable:
    """Load a module's network, and keep the last one.

    `content` isn't used here, but it makes the cache load changed files again.
    """
    with quietly():
        with default_keras_config():  # TF Hub imports Keras
            import tensorflow_hub as hub
        with explain_errors(f"{folder} can't be loaded as a module", "choose another"):
            network = hub.load(str(folder))
            if not callable(network):
                raise TypeError("it isn't in TF Hub's current format, TF2 SavedModel")
    return network


def _call(network: Callable, images, name: str, width: int | None = None) -> np.ndarray:
    """Return the bottlenecks of images; `width` is the number of features, if known."""
    tf = import_tensorflow()
    squares = f"squares of the shape {list(images.shape)}"
    problem = f"{name} can't turn {squares} into one feature vector each"
    with explain_errors(problem, "choose another --size or module"):
        output = network(images)
        if not isinstance(output, tf.Tensor):
            raise TypeError(f"it returns a {type(output).__name__}")
        features = tf.cast(output, tf.float32).numpy()
        shape = features.shape
        has_row_per_image = len(shape) == 2 and shape[0] == len(images)
        if not has_row_per_image or not shape[1] or width not in (None, shape[1]):
            raise ValueError(f"it returns the shape {list(shape)}")
    return features


def _inspect(
    network: Callable, name: str, requested_size: int | None, trained_size: int | None
) -> dict[str, int]:
    """Run a network on two black squares; return its size, features and costs."""
    tf = import_tensorflow()
    calls = network.__call__.concrete_functions
    specs = tf.nest.flatten([call.structured_input_signature for call in calls])
    shapes = [spec.shape for spec in specs if isinstance(spec, tf.TensorSpec)]
    # Images are [batch, height, width, channels]. What isn't fixed is None.
    batch, height = next((s[:2] for s in shapes if s.rank == 4), (None, None))
    if batch:
        raise DogtlError(f"{name} takes batches of {batch} only: choose another module")
    size = requested_size or height or trained_size
    if not size or height not in (None, size):
        takes = f"{height} pixels" if height else "any size"
        advice = "set --size (or DOGTL_SIZE) to the one that it was trained on"
        raise DogtlError(f"{name} takes squares of {takes}: {advice}")
    features = _call(network, tf.zeros([2, size, size, 3]), name)
    return {"size": size, "n_features": features.shape[1], **_costs(network, size)}


def _costs(network: Callable, size: int) -> dict[str, int]:
    """Count a network's weights and its multiply-adds for one square."""
    tf = import_tensorflow()
    from tensorflow.python.framework import convert_to_constants

    call = tf.function(lambda image: network(image))
    traced = call.get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    n_parameters = sum(v.shape.num_elements() for v in traced.variables)
    try:
        frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    except ValueError:  # it writes to its variables, so they can't become constants
        return {"n_parameters": n_parameters, "multiply_adds": 0}
    profiler = tf.compat.v1.profiler
    Builder = profiler.ProfileOptionBuilder
    options = Builder(Builder.float_operation()).with_empty_output().build()
    n_operations = profiler.profile(frozen.graph, options=options).total_float_ops
    multiply_adds = n_operations // 2  # each counts as two operations
    return {"n_parameters": n_parameters, "multiply_adds": multiply_adds}


def _find_folder(name: str, handle: str, home: Path, size: int | None) -> Path:
    """Return a module's folder, after fetching or making it if it isn't there."""
    is_file = handle.endswith(".keras") and os.path.isfile(handle)
    if is_file or handle.startswith(KERAS):
        return _convert_keras(handle, home, size)
    if name == "toy_random":
        return toy.pretrain.untrained(home)
    if "://" in handle:
        from dogtl import download  # imported here, because its libraries load slowly

        address = f"{handle}{'&' if '?' in handle else '?'}tf-hub-format=compressed"
        folder = f"{slug(handle)}-{store.fingerprint(handle)}"
        return download.fetch_folder(address, home / "modules" / folder)
    if is_word(handle) or not os.path.isdir(handle):
        raise DogtlError(
            f"there is no module {name}: choose {', '.join(MODULES)}, or the path (with"
            " a /) or address of one that you trust (loading one runs its code)"
        )
    return Path(handle)


def _convert_keras(handle: str, home: Path, requested_size: int | None) -> Path:
    """Return the folder of a Keras network as a SavedModel, made at first use."""
    is_name = handle.startswith(KERAS)
    size = requested_size if is_name else None  # a file brings its own
    source = handle if is_name else store.fingerprint_file(Path(handle))
    key = store.fingerprint(CODE, version("keras"), source, size)
    folder = home / "modules" / f"{slug(Path(handle).name)}-{key}"
    if frameworks.is_saved_model(folder):
        return folder
    log.info("%s: reading it, or fetching its weights, with Keras", handle)
    try:
        with (
            default_keras_config(),
            redirect_stdout(sys.stderr),
            warnings.catch_warnings(action="ignore"),
        ):
            network = _build_keras(handle, size) if is_name else _read_keras(handle)
            weights = store.fingerprint(*network.get_weights())
            content = store.fingerprint(version("keras"), source, weights)
            frameworks.export_keras(network, folder, {"keras_content": content})
    except DogtlError:
        raise
    except Exception as error:  # Keras raises errors of many classes, with long texts
        fetch_failed = isinstance(error.__context__, OSError)
        cause = error.__context__ if fetch_failed else error
        reason = error_text(cause).partition(". ")[0]
        advice = KERAS_NAME_ADVICE if is_name else KERAS_FILE_ADVICE
        problem = f"{handle} can't be used as a module ({reason})"
        raise DogtlError(f"{problem}: {advice}") from error
    return folder


def _read_keras(file: str):
    """Read a ``.keras`` file; safe mode refuses files with code in them."""
    import keras

    return keras.saving.load_model(file, compile=False, safe_mode=True)


def _build_keras(handle: str, requested_size: int | None):
    """Build a network of keras.applications that takes squares in [0, 1]."""
    import keras

    name = handle.removeprefix(KERAS)
    known = [name for name in vars(keras.applications) if name[0].isupper()]
    if name not in known:
        raise DogtlError(
            f"Keras has no {name!r}: choose keras:NAME with {', '.join(known)}"
        )
    application = getattr(keras.applications, name)
    # Networks expect different values. Each one's source file has the right function.
    preprocess_input = sys.modules[application.__module__].preprocess_input
    # Only a network that's built tells its default size; some take any size (None).
    size = requested_size or application(weights=None).input_shape[1] or 224
    shape = (size, size, 3)
    network = application(include_top=False, input_shape=shape, pooling="avg")
    squares = keras.Input(shape)
    return keras.Model(squares, network(preprocess_input(squares * 255)))


def fingerprint_folder(folder: Path) -> str:
    """Return a hash of the names and contents of a module's files.

    TensorFlow writes the same network in different bytes each time. So a converted
    Keras network has a hash of its weights in `module.json`, which is returned instead.
    """
    facts = folder / "module.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        if facts.is_file():  # reading a pipe would block
            return str(json.loads(facts.read_bytes())["keras_content"])
    files = sorted(file for file in folder.rglob("[!.]*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in files]
    return store.fingerprint(names, [store.fingerprint_file(file) for file in files])
