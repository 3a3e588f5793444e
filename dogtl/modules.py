"""Step 0, modules: pretrained networks that turn a square into a bottleneck.

A *module* here is a network in TF Hub's SavedModel format, never a Python module.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from dogtl.choices import Choice, DogtlError, digest, is_word, key, log, whole
from dogtl.fetch import FetchError, fetch_folder, is_whole, manifest
from dogtl.toy import MODULE, SIBLINGS

CACHE = "TFHUB_CACHE_DIR"
HUB = "https://tfhub.dev/google/"
KAGGLE = "https://www.kaggle.com/models/google/"
_CACHES: set[str] = set()  # what was set here, so that another home may change it


class Known(NamedTuple):
    """A module that has a name here.

    `size` is the side of the squares that it was trained on; `features`; `megabytes`
    what comes over the network, roughly: four bytes a parameter; `reported` what others
    got with it; `older` its address on TF Hub, if that is another one.
    """

    handle: str
    size: int
    features: int
    megabytes: int
    reported: str
    older: str = ""


# tensorflow_hub 0.16.1 asks any address for ?tf-hub-format=compressed and knows nothing
# of Kaggle. tfhub.dev's addresses lead to Kaggle's, which the README of tensorflow/hub
# on GitHub recommends. They stand here where one was read in projects that load it
# (version 5 on TF Hub is version 2 there), else TF Hub's. Those, with sizes and
# features, are from assets/docs/google/models in tensorflow/tfhub.dev on GitHub; for
# BiT, which takes any size, the size is that of its training.
# Reported: top-1 accuracies on ImageNet from research/slim in tensorflow/models, from
# google-research/big_transfer and from EfficientNet's page on TF Hub, the latter two
# after fine-tuning; those on the dogs are what the original project got.
KNOWN = {
    "toy": Known(str(MODULE), 112, 256, 0, "see README.md"),
    "toy_small": Known(str(SIBLINGS / "small"), 112, 128, 0, "lesson 6"),
    "toy_young": Known(str(SIBLINGS / "young"), 112, 256, 0, "lesson 6"),
    "inception_v3": Known(
        KAGGLE + "inception-v3/TensorFlow2/feature-vector/2",
        *(299, 2048, 87, "dogs 85 %, ImageNet 78.0 %"),
        HUB + "imagenet/inception_v3/feature_vector/5",
    ),
    "inception_resnet_v2": Known(
        HUB + "imagenet/inception_resnet_v2/feature_vector/5",
        *(299, 1536, 217, "dogs 86.1 %, ImageNet 80.4 %"),
    ),
    "mobilenet_v2": Known(
        KAGGLE + "mobilenet-v2/TensorFlow2/100-224-feature-vector/2",
        *(224, 1280, 9, "ImageNet 71.9 %"),
        HUB + "imagenet/mobilenet_v2_100_224/feature_vector/5",
    ),
    "resnet_v2_50": Known(
        KAGGLE + "resnet-v2/TensorFlow2/50-feature-vector/2",
        *(224, 2048, 94, "ImageNet 75.6 %"),
        HUB + "imagenet/resnet_v2_50/feature_vector/5",
    ),
    "efficientnet_v2_s": Known(
        HUB + "imagenet/efficientnet_v2_imagenet21k_s/feature_vector/2",
        *(384, 1280, 81, "ImageNet 84.9 %"),
    ),
    "bit_m_r50x1": Known(
        KAGGLE + "bit/TensorFlow2/m-r50x1/1",
        *(224, 2048, 94, "ImageNet 80.7 %"),
        HUB + "bit/m-r50x1/1",
    ),
}


class ModuleError(DogtlError):
    """A module that cannot be had or cannot be used."""


@dataclass(frozen=True)
class Module:
    """What is known of a module without loading it.

    `handle` is what TF Hub loads (a folder or an address); squares must be `size` x
    `size` pixels, or any size if that is None; a bottleneck has `features` numbers;
    `stamp` changes when the module's files do.
    """

    handle: str
    size: int | None
    features: int
    stamp: str


def describe(choice: Choice) -> Module:
    """What is known of the chosen module; it is loaded only the first time.

    Raises ModuleError if there is no such module or it takes no squares.
    """
    _cache_in(choice.home)
    handle = _handle(choice.module)
    stamp = _stamp(handle)
    note = choice.home / "modules" / f"{key(choice.module)}.json"
    try:
        known = Module(**json.loads(note.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        known = None
    if known and stamp is None:  # its files are not here, and perhaps not needed
        stamp = known.stamp
    if known is None or (known.handle, known.stamp) != (handle, stamp):
        fetch_module(handle)
        known = _inspect(handle, _stamp(handle) or "", choice)
        with choice.lock(), whole(note) as part:
            part.write_text(json.dumps(asdict(known), indent=1) + "\n", "utf-8")
    return known


def input_size(choice: Choice) -> int:
    """The side of the squares that the chosen module takes, in pixels.

    It is the choice's own size, else the one that the module's signature fixes,
    else the one in the table of known modules. Raises ModuleError otherwise.
    """
    module = describe(choice)
    if choice.size and module.size and choice.size != module.size:
        raise ModuleError(
            f"{choice.module} takes squares of {module.size} pixels, not of"
            f" {choice.size}: leave --size (or DOGTL_SIZE) out"
        )
    size = choice.size or module.size or trained_size(module.handle)
    if not size:
        raise ModuleError(
            f"{choice.module} takes squares of any size: choose one with --size (or"
            " DOGTL_SIZE), best the one that it was trained on"
        )
    return size


@functools.lru_cache(maxsize=1)
def load(handle: str, stamp: str = "") -> Callable:
    """Load a module: float32 [batch, size, size, 3] in [0, 1] to [batch, features].

    The last one stays loaded. Raises ModuleError if it cannot be loaded or is not a
    function of images.
    """
    folder = fetch_module(handle)
    tensorflow()
    import tensorflow_hub as hub

    try:
        loaded = hub.load(folder)
    except Exception as error:  # TF Hub and TensorFlow raise a dozen kinds
        reason = str(error).strip().split("\n")[0]
        raise ModuleError(f"{handle} cannot be loaded as a module: {reason}") from error
    if callable(loaded):
        return loaded
    if loaded._is_hub_module_v1:
        raise ModuleError(
            f"{handle} is in TF Hub's old format: choose a later version of it, in the"
            " current format"
        )
    raise ModuleError(
        f"{handle} is no TF2 SavedModel that can be called: choose a feature vector in"
        " the current format"
    )


def fetch_module(handle: str) -> str:
    """The folder that a module lies in; what has an address comes into TF Hub's cache.

    TF Hub would fetch it to the same place, but start over after a cut, wait ten
    minutes after a kill, never notice a broken cache and print on standard output.
    Raises ModuleError.
    """
    folder = _cached(handle)
    if folder is None:
        return handle
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / ".lock")
    address = f"{handle}{'&' if '?' in handle else '?'}tf-hub-format=compressed"
    try:
        fetch_folder(address, folder, lambda: _is_usable(folder), lock)
    except FetchError as error:
        raise ModuleError(f"the module cannot be loaded: {error}") from error
    return str(folder)


def trained_size(handle: str) -> int | None:
    """The size in the table, for a handle in any version and any spelling."""
    for known in KNOWN.values():
        if _bare(handle) in {_bare(known.handle), _bare(known.older)}:
            return known.size
    return None


def costs(network: Callable, size: int) -> dict[str, int]:
    """What a loaded module costs: `parameters`, and `multiply_adds` for one square."""
    tf = tensorflow()
    from tensorflow.python.framework import convert_to_constants

    options = tf.compat.v1.profiler.ProfileOptionBuilder
    call = tf.function(lambda image: network(image))
    traced = call.get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    count = options(options.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(frozen.graph, options=count)
    parameters = sum(variable.shape.num_elements() for variable in traced.variables)
    return {"parameters": parameters, "multiply_adds": profile.total_float_ops // 2}


def tensorflow():
    """Import TensorFlow without the lines that it prints on standard error.

    They come from C++ before any setting is read, so file descriptor 2 leads to a
    temporary file for that moment; if the import fails its error is raised as usual.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _quiet():
            import tensorflow
            import tensorflow_hub  # noqa: F401
        tensorflow.get_logger().setLevel("ERROR")  # or notebooks would store its news
    return sys.modules["tensorflow"]


@contextmanager
def _quiet() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as elsewhere:
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _handle(module: str) -> str:
    if is_word(module):
        if module not in KNOWN:
            raise ModuleError(
                f"there is no module called {module!r}: choose {', '.join(KNOWN)}, a"
                " folder (a path holds a /) or a handle"
            )
        return KNOWN[module].handle
    if "://" not in module and not Path(module).is_dir():
        raise ModuleError(f"there is no module folder {module}: give one that exists")
    if "://" in module and re.search(r"classification(/versions)?/\d+/?$", module):
        raise ModuleError(
            f"{module} is a classifier: choose the feature vector of the same network"
        )
    return module


def _bare(handle: str) -> str:
    """A handle without its version and without Kaggle's optional words."""
    bare = re.sub(r"/(frameworks|variations|versions)(?=/)", "", handle.lower())
    return re.sub(r"(/\d+)?/?(\?.*)?$", "", bare)


def _cache_in(home: Path) -> None:
    """Keep TF Hub's cache in the home, unless the user has said where."""
    if os.environ.get(CACHE, "") in {"", *_CACHES}:
        _CACHES.add(str(home / "modules" / "tfhub"))
        os.environ[CACHE] = str(home / "modules" / "tfhub")


def _cached(handle: str) -> Path | None:
    """Where TF Hub keeps what comes from an address."""
    if not handle.startswith(("http://", "https://")):
        return None
    cache = os.environ.get(CACHE) or os.path.join(
        tempfile.gettempdir(), "tfhub_modules"
    )
    return Path(cache, hashlib.sha1(handle.encode()).hexdigest())


def _is_usable(folder: Path) -> bool:
    """Whether a module in the cache has its files; TF Hub itself leaves no list."""
    if manifest(folder):
        return is_whole(folder)
    variables = folder.glob("variables/variables.*")
    return (folder / "saved_model.pb").exists() and len(list(variables)) > 1


def _stamp(handle: str) -> str | None:
    """What changes when a module's files do; None if they are not here."""
    if "://" in handle:
        folder = _cached(handle)
        here = folder and is_whole(folder)
        return digest(manifest(folder)["files"]) if here else None
    files = sorted(file for file in Path(handle).rglob("*") if file.is_file())
    stats = [(file.relative_to(handle).as_posix(), file.stat()) for file in files]
    return digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _inspect(handle: str, stamp: str, choice: Choice) -> Module:
    """Load a module, read its input size off its signature and try it on nothing."""
    network, tf = load(handle, stamp), tensorflow()
    shapes = [
        spec.shape
        for function in network.__call__.concrete_functions
        for spec in tf.nest.flatten(function.structured_input_signature)
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4
    ]
    if not shapes or shapes[0][3] not in (3, None):
        raise ModuleError(
            f"{handle} takes no RGB images: choose a feature vector of images"
        )
    size = shapes[0][1]
    side = size or choice.size or trained_size(handle) or 224
    try:
        vector = network(tf.zeros([1, side, side, 3]))
    except Exception as error:  # TensorFlow raises a dozen kinds
        raise ModuleError(
            f"{handle} cannot take squares of {side} pixels: choose another --size or"
            " a feature vector of square float32 images"
        ) from error
    if not tf.is_tensor(vector) or vector.shape.rank != 2:
        raise ModuleError(
            f"{handle} gives no feature vector: choose a module that does"
        )
    features = int(vector.shape[1])
    if features in (1000, 1001):  # no more than a hint: vectors have such lengths too
        log.warning(
            "%s gives %d numbers, as ImageNet's classifiers do", handle, features
        )
    return Module(handle, size, features, stamp)
