"""TensorFlow and Keras: imported lazily, silently and with default settings."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dogtl.base import DogtlError, error_text
from dogtl.store import sweep, sync_disks, temporary_path

KERAS_DEFAULTS = {
    "floatx": "float32",
    "dtype_policy": "float32",
    "image_data_format": "channels_last",
}
WRONG_BACKEND = (
    "modules need Keras on TensorFlow ({}): set KERAS_BACKEND=tensorflow, and check"
    " keras.json"
)


@contextmanager
def quietly() -> Iterator[None]:
    """Redirect standard error (file descriptor 2) to /dev/null."""
    if sys.stderr is None:  # it was closed, so nothing can be printed on it
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def import_tensorflow():
    """Import TensorFlow without the lines that it prints on standard error.

    TensorFlow's C++ code prints them regardless of settings, so standard error is
    redirected while it loads. If the import fails, its error is raised as usual.

    Returns
    -------
    module
        The Python module ``tensorflow``.

    Examples
    --------
    >>> tf = dogtl.import_tensorflow()
    >>> tf.zeros([2]).numpy()
    array([0., 0.], dtype=float32)
    """
    if "tensorflow" not in sys.modules:
        with quietly():
            import tensorflow as tf

            tf.zeros([])  # the first operation also prints
        tf.get_logger().setLevel("ERROR")  # keeps its log out of notebooks
    return sys.modules["tensorflow"]


@contextmanager
def default_keras_config() -> Iterator[None]:
    """Let Keras ignore the user's settings within the block.

    They're in ``~/.keras/keras.json``, and would change what a network computes.
    Raises DogtlError if Keras doesn't run on TensorFlow.
    """
    try:
        import_tensorflow()
        import keras
    except AssertionError as error:  # it has no text
        raise DogtlError(WRONG_BACKEND.format("unknown setting")) from error
    except (ImportError, ValueError) as error:
        raise DogtlError(WRONG_BACKEND.format(error_text(error))) from error
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise DogtlError(WRONG_BACKEND.format(backend))
    kept = {name: getattr(keras.config, name)() for name in KERAS_DEFAULTS}
    try:
        for name, value in KERAS_DEFAULTS.items():
            getattr(keras.config, f"set_{name}")(value)
        yield
    finally:
        for name, value in kept.items():
            getattr(keras.config, f"set_{name}")(value)


def export_keras(network, folder: Path, facts: dict | None = None) -> None:
    """Write a Keras network as a SavedModel with TF Hub's feature-vector signature.

    The module is called as ``module(images, training=False)``. It maps images, float32
    [batch, height, width, 3] in [0, 1], to features, float32 [batch, features]. The
    folder appears at once, when it's complete; a complete one stays. `facts` go into
    `module.json`. Raises DogtlError if TensorFlow can't write there.
    """
    tf = import_tensorflow()
    images = tf.TensorSpec([None, *network.input_shape[1:]])

    @tf.function(autograph=False)
    def call(images, training=False):
        return network(images, training=training)

    call.get_concrete_function(images, training=True)  # so that it's saved too
    serving = call.get_concrete_function(images, training=False)
    module = tf.train.Checkpoint()
    module.__call__ = call
    module.regularization_losses = []
    module.variables = [v.value for v in network.variables]
    module.trainable_variables = [v.value for v in network.trainable_variables]
    part = temporary_path(folder)
    try:
        with quietly():
            tf.saved_model.save(module, str(part), serving)
        if facts:
            text = json.dumps(facts, indent=1) + "\n"
            (part / "module.json").write_text(text, "utf-8")
        sync_disks()
        if not is_saved_model(folder):
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
    except Exception as error:  # TensorFlow raises errors of many classes
        # If another process has finished this folder and deleted our temporary one,
        # the error doesn't matter.
        if not is_saved_model(folder):
            problem = f"{folder} can't be written ({error_text(error)})"
            raise DogtlError(f"{problem}: make room, or choose another home") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sweep(folder.parent)


def is_saved_model(folder: Path) -> bool:
    """Return whether a SavedModel is there and none of its files was emptied."""
    if not (folder / "saved_model.pb").is_file():
        return False
    return all(file.stat().st_size for file in folder.rglob("*") if file.is_file())
