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

from dogtl import store, toy
from dogtl.base import KERAS, DogtlError, choose, error_text, is_word, log, slug
from dogtl.frameworks import default_keras_config, import_tensorflow, quietly

MAX_SIZE = 4096  # pixels; a mistyped size would fill the memory
CODE = store.code_version(__file__, "tensorflow")

# TF Hub's addresses redirect to Kaggle today. Where a public project loads a module
# from Kaggle, its address there is given. Sizes are those of the modules' own pages.
HUB = "https://tfhub.dev/google/imagenet/"
KAGGLE = "https://www.kaggle.com/models/google/"
MODULES = {  # by name: the folder or address, and the size that it was trained on
    "toy": (str(toy.MODULE), 112),
    "toy_small": (str(toy.SIBLINGS / "small"), 112),
    "toy_young": (str(toy.SIBLINGS / "young"), 112),
    "toy_random": ("made at first use", 112),
    "inception_v3": (KAGGLE + "inception-v3/TensorFlow2/feature-vector/2", 299),
    "inception_resnet_v2": (HUB + "inception_resnet_v2/feature_vector/5", 299),
    "mobilenet_v2": (KAGGLE + "mobilenet-v2/TensorFlow2/100-224-feature-vector/2", 224),
    "resnet_v2_50": (KAGGLE + "resnet-v2/TensorFlow2/50-feature-vector/2", 224),
    "efficientnet_v2_s": (HUB + "efficientnet_v2_imagenet21k_s/feature_vector/2", 384),
    "bit_m_r50x1": (KAGGLE + "bit/TensorFlow2/m-r50x1/1", 224),
}
KERAS_ADVICE = (  # for a file, and for a name
    "save it from Keras 3 with Keras' own layers only, no Lambda, as a .keras file",
    "check --size and the network, or run dogtl fetch on a connected machine and copy"
    " its home here",
)
FACTS = ("size", "n_features", "n_parameters", "multiply_adds")


@dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A pretrained network, to be called with squares; TensorFlow waits until then.

    Attributes
    ----------
    name : str
        What was chosen: a known word, a handle or an absolute path.
    folder : Path
        Where the SavedModel lies.
    size : int
        The side of the squares that it takes, in pixels.
    n_features : int
        How many numbers a bottleneck, or feature vector, has.
    n_parameters : int
        The number of its weights, all frozen here.
    multiply_adds : int
        How many multiplications with an addition one square takes; 0 if the network
        can't be frozen to count them.
    fingerprint : str
        A hash of its files (of Keras' networks: of their weights, and Keras' version),
        and `size`.
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
            One row a square.

        Raises
        ------
        DogtlError
            If the network fails, or gives something else than one row a square.
        """
        network = load_network(self.folder, self.content)
        images = np.asarray(images, dtype=np.float32)
        return _call(network, images, self.name, self.n_features)

    def __repr__(self) -> str:
        text = f"{self.label}: {self.size} x {self.size} pixels to {self.n_features}"
        text += f" features, {self.n_parameters:,} parameters"
        return f"{text}, {self.multiply_adds:,} multiply-adds"

    @property
    def content(self) -> str:
        """The fingerprint's first part, the hash of the files."""
        return self.fingerprint.partition("-")[0]

    @property
    def label(self) -> str:
        """The last part of the name, for people; of an address the last three."""
        return "/".join(Path(self.name).parts[-3 if "://" in self.name else -1 :])


def load_module(
    module: str | Path | None = None, size: int | None = None, home: Path | None = None
) -> Module:
    """Return the chosen module.

    A module from an address is downloaded at first use. It's loaded here only the first
    time, to find out what it takes and gives.

    Parameters
    ----------
    module : str or Path, optional
        A word in `MODULES`, a folder, a ``.keras`` file, or a handle: an address on TF
        Hub or Kaggle, or ``keras:`` and a class of `keras.applications`, whose weights
        Keras fetches; unless given ``DOGTL_MODULE``, else ``toy``.
    size : int, optional
        The side of the squares in pixels, for a module that takes any; unless given
        ``DOGTL_SIZE``, else the size it was trained on, for modules in `MODULES`.
    home : Path, optional
        The folder for everything generated; unless given ``DOGTL_HOME``, else ``data``.

    Returns
    -------
    Module
        The module, callable on a batch of squares.

    Raises
    ------
    DogtlError
        If there is no such module, or it isn't a feature vector of images.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> module.size, module.n_features
    (112, 256)
    >>> module(np.zeros((2, 112, 112, 3), np.float32)).shape
    (2, 256)
    """
    name = choose(module, "DOGTL_MODULE", "toy")
    home, asked = store.find_home(home), _asked_size(size)
    handle, _ = MODULES.get(name, (name, None))
    trained = dict(MODULES.values()).get(handle)  # an address may be in the table too
    folder = _find_folder(name, handle, home, asked)
    content = fingerprint_folder(folder)
    file = home / "modules" / f"{store.fingerprint(CODE, content, asked, trained)}.npz"
    facts = store.load_arrays(file)
    if {fact: type(n) for fact, n in facts.items()} != dict.fromkeys(FACTS, int):
        facts = _inspect(load_network(folder, content), name, asked, trained)
        store.save_arrays(file, facts)
    return Module(name, folder, **facts, fingerprint=f"{content}-{facts['size']}")


@functools.lru_cache(maxsize=1)
@quietly()
def load_network(folder: Path, content: str) -> Callable:
    """Load a module's network; the last one stays loaded, until its content changes."""
    with default_keras_config():  # which TF Hub imports
        import tensorflow_hub as hub
    try:
        network = hub.load(str(folder))
        if not callable(network):
            raise TypeError("it isn't in TF Hub's current format, TF2 SavedModel")
    except Exception as error:  # TF Hub and TensorFlow raise a dozen kinds
        raise DogtlError(
            f"{folder} can't be loaded as a module ({error_text(error)}): choose another"
        ) from error
    return network


def _call(network: Callable, images, name: str, width: int | None = None) -> np.ndarray:
    """Return the bottlenecks of images, of `width` features or of any number."""
    tf = import_tensorflow()
    try:
        output = network(images)
        if not isinstance(output, tf.Tensor):
            raise TypeError(f"it gives a {type(output).__name__}")
        features = tf.cast(output, tf.float32).numpy()
        shape = features.shape
        if len(shape) != 2 or not shape[1] or shape != (len(images), width or shape[1]):
            raise ValueError(f"it gives the shape {list(shape)}")
    except Exception as error:  # TensorFlow raises a dozen kinds
        raise DogtlError(
            f"{name} can't turn squares in the shape {list(images.shape)} into one"
            f" feature vector each ({error_text(error)}): choose another --size or module"
        ) from error
    return features


@quietly()
def _inspect(
    network: Callable, name: str, asked: int | None, trained: int | None
) -> dict[str, int]:
    """Run a network on two black squares; return its size, features and costs."""
    tf = import_tensorflow()
    calls = network.__call__.concrete_functions
    specs = tf.nest.flatten([call.structured_input_signature for call in calls])
    shapes = [spec.shape for spec in specs if isinstance(spec, tf.TensorSpec)]
    batch, fixed = next((s[:2] for s in shapes if s.rank == 4), (None, None))
    if batch:
        raise DogtlError(f"{name} takes batches of {batch} only: choose another module")
    size = asked or fixed or trained
    if not size or fixed not in (None, size):
        takes = f"{fixed} pixels" if fixed else "any size"
        raise DogtlError(
            f"{name} takes squares of {takes}: set --size (or DOGTL_SIZE) to the one"
            " that it was trained on"
        )
    features = _call(network, tf.zeros([2, size, size, 3]), name)
    return {"size": size, "n_features": features.shape[1], **_costs(network, size)}


def _costs(network: Callable, size: int) -> dict[str, int]:
    """Count a network's weights, and its multiply-adds for one square."""
    tf = import_tensorflow()
    from tensorflow.python.framework import convert_to_constants

    call = tf.function(lambda image: network(image))
    traced = call.get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    n_parameters = sum(v.shape.num_elements() for v in traced.variables)
    try:
        frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    except ValueError:  # it writes to its variables, so they are no constants
        return {"n_parameters": n_parameters, "multiply_adds": 0}
    options = tf.compat.v1.profiler.ProfileOptionBuilder
    count = options(options.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(frozen.graph, options=count)
    return {"n_parameters": n_parameters, "multiply_adds": profile.total_float_ops // 2}


def _asked_size(size: int | None) -> int | None:
    asked = os.environ.get("DOGTL_SIZE", "") if size is None else str(size)
    if asked and asked not in map(str, range(1, MAX_SIZE + 1)):
        raise DogtlError(
            f"--size (or DOGTL_SIZE) is {asked!r}: give pixels, from 1 to {MAX_SIZE}"
        )
    return int(asked) if asked else None


def _find_folder(name: str, handle: str, home: Path, asked: int | None) -> Path:
    """Return the folder that a module lies in; one from an address is fetched."""
    is_file = handle.endswith(".keras") and os.path.isfile(handle)
    if is_file or handle.startswith(KERAS):
        return _convert_keras(handle, home, asked)
    if name == "toy_random":
        return toy.pretrain.untrained(home)
    if "://" in handle:
        from dogtl import download  # what it imports takes long

        address = f"{handle}{'&' if '?' in handle else '?'}tf-hub-format=compressed"
        folder = f"{slug(handle)}-{store.fingerprint(handle)}"
        return download.fetch_folder(address, home / "modules" / folder)
    if is_word(handle) or not os.path.isdir(handle):
        raise DogtlError(
            f"there is no module {name}: choose {', '.join(MODULES)}, or the path (with"
            " a /) or address of one that you trust, since a module is a program"
        )
    return Path(handle)


def _convert_keras(handle: str, home: Path, asked: int | None) -> Path:
    """Return the folder of a network of Keras as a SavedModel; made at first use."""
    by_name = handle.startswith(KERAS)
    what = [handle, asked] if by_name else [store.fingerprint_file(Path(handle))]
    key = store.fingerprint(CODE, toy.pretrain.CODE, version("keras"), what)
    folder = home / "modules" / f"{slug(Path(handle).name)}-{key}"
    if folder.exists():
        return folder
    log.info("%s: reading it, or fetching its weights, with Keras", handle)
    try:
        with (
            default_keras_config(),
            redirect_stdout(sys.stderr),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            network = _build_keras(handle, asked) if by_name else _read_keras(handle)
            weights = store.fingerprint(*network.get_weights())
            content = store.fingerprint(version("keras"), what[0], weights)
            toy.pretrain.export(network, folder, {"keras_content": content})
    except DogtlError:
        raise
    except Exception as error:  # Keras raises a dozen kinds, with long texts
        failed = isinstance(error.__context__, OSError)  # to fetch the weights
        reason = error_text(error.__context__ if failed else error).partition(". ")[0]
        raise DogtlError(
            f"{handle} can't be used as a module ({reason}): {KERAS_ADVICE[by_name]}"
        ) from error
    return folder


def _read_keras(file: str):
    """Read a ``.keras`` file; nothing in it may run."""
    import keras

    return keras.saving.load_model(file, compile=False, safe_mode=True)


def _build_keras(handle: str, asked: int | None):
    """Build a network of keras.applications that takes squares in [0, 1]."""
    import keras

    name = handle.removeprefix(KERAS)
    known = [name for name in vars(keras.applications) if name[0].isupper()]
    if name not in known:
        raise DogtlError(f"Keras has no {name!r}: choose keras: and {', '.join(known)}")
    application = getattr(keras.applications, name)
    preprocess_input = sys.modules[application.__module__].preprocess_input
    size = asked or application(weights=None).input_shape[1] or 224
    shape = (size, size, 3)
    network = application(include_top=False, input_shape=shape, pooling="avg")
    squares = keras.Input(shape)
    return keras.Model(squares, network(preprocess_input(squares * 255)))


def fingerprint_folder(folder: Path) -> str:
    """Return a hash of a module's files, by name and content; times don't count.

    TensorFlow never writes the same network in the same bytes, so what was made of
    Keras' brings its hash along.
    """
    facts = folder / "module.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return str(json.loads(facts.read_bytes())["keras_content"])
    files = sorted(file for file in folder.rglob("[!.]*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in files]
    return store.fingerprint(names, [store.fingerprint_file(file) for file in files])
