"""Step 0, modules: pretrained networks that turn a square into a bottleneck.

A *module* here is a network in TF Hub's SavedModel format, never a Python module.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dogtl.choices import Choice, DogtlError, digest, is_word, key, whole


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
    handle = _handle(choice.module)
    stamp = _stamp(handle)
    note = choice.home / "modules" / f"{key(choice.module)}.json"
    try:
        known = Module(**json.loads(note.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        known = None
    if known is None or (known.handle, known.stamp) != (handle, stamp):
        known = _inspect(handle, stamp, choice)
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
    size = choice.size or module.size
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
    tensorflow()
    import tensorflow_hub as hub

    try:
        loaded = hub.load(handle)
    except Exception as error:  # TF Hub and TensorFlow raise a dozen kinds
        reason = str(error).strip().split("\n")[0]
        raise ModuleError(f"{handle} cannot be loaded as a module: {reason}") from error
    if callable(loaded):
        return loaded
    raise ModuleError(
        f"{handle} is no TF2 SavedModel that can be called: choose a feature vector in"
        " the current format"
    )


def tensorflow():
    """Import TensorFlow without the lines that it prints on standard error.

    They come from C++ before any setting is read, so file descriptor 2 leads to a
    temporary file for that moment; if the import fails its error is raised as usual.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _quiet():
            import tensorflow  # noqa: F401
            import tensorflow_hub  # noqa: F401
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
    if not is_word(module):
        if "://" not in module and not Path(module).is_dir():
            raise ModuleError(
                f"there is no module folder {module}: give one that exists"
            )
        return module
    if module == "toy":
        from dogtl import toy

        return str(toy.MODULE)
    raise ModuleError(
        f"there is no module called {module!r}: choose toy, a folder or …"
    )


def _stamp(handle: str) -> str:
    if "://" in handle:
        return ""
    files = sorted(file for file in Path(handle).rglob("*") if file.is_file())
    return digest([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


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
    side = size or choice.size or 224
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
    return Module(handle, size, int(vector.shape[1]), stamp)
