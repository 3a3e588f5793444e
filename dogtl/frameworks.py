"""TensorFlow and Keras: imported when first needed, silently, and as they come."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dogtl.base import DogtlError, error_text

KERAS_DEFAULTS = {
    "floatx": "float32",
    "dtype_policy": "float32",
    "image_data_format": "channels_last",
}


@contextmanager
def quietly() -> Iterator[None]:
    """Send file descriptor 2, standard error, elsewhere for a moment."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def import_tensorflow():
    """Import TensorFlow without the lines that it prints on standard error.

    They come from C++ whatever one sets, so file descriptor 2 leads nowhere for that
    moment. If the import fails its error is raised as usual.

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

            tf.zeros([])  # the first operation has something to say, too
        tf.get_logger().setLevel("ERROR")  # or its log would end up in notebooks
    return sys.modules["tensorflow"]


@contextmanager
def default_keras_config() -> Iterator[None]:
    """Let Keras, on TensorFlow, forget the user's settings for a moment.

    They're in ``~/.keras/keras.json``, and would change what a network computes.
    Raises DogtlError if Keras is set to another backend.
    """
    try:
        import_tensorflow()
        import keras

        backend = keras.backend.backend()
    except (ImportError, ValueError) as error:  # that backend isn't there
        backend = error_text(error)
    if backend != "tensorflow":
        needed = "modules need Keras on TensorFlow"
        raise DogtlError(f"{needed} ({backend}): set KERAS_BACKEND=tensorflow")
    kept = {name: getattr(keras.config, name)() for name in KERAS_DEFAULTS}
    try:
        for name, value in KERAS_DEFAULTS.items():
            getattr(keras.config, f"set_{name}")(value)
        yield
    finally:
        for name, value in kept.items():
            getattr(keras.config, f"set_{name}")(value)
