"""Step 3, the linear layer: multinomial logistic regression on the bottlenecks."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from dogtl import store
from dogtl.base import DogtlError, log, progress
from dogtl.bottlenecks import Bottlenecks, check_finite
from dogtl.modules import import_tensorflow

BATCH_SIZES = (32, 128)
L2S = (0.0, 1e-3, 1e-2)
PATIENCE = 10  # epochs without a lower validation loss before training stops
MAX_EPOCHS = 300
HISTORY = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")
CODE = store.code_version(__file__, "tensorflow", "keras", "numpy")


@dataclass(frozen=True, eq=False, repr=False)
class LinearLayer:
    """A dense layer with softmax, on raw bottlenecks.

    Attributes
    ----------
    kernel : ndarray, float32 [features, breeds]
        The weights.
    bias : ndarray, float32 [breeds]
        What is added to each breed's score.
    breeds : list of str
        The classes, in the columns' order.
    module : dict of str to str
        The ``name`` and the ``fingerprint`` of the module that it belongs to.
    l2, batch_size : float, int
        The hyperparameters it was trained with.
    history : dict of str to ndarray, float64 [epochs]
        ``train_loss``, ``valid_loss``, ``train_accuracy`` and ``valid_accuracy`` over
        the whole split at the end of each epoch.
    """

    kernel: np.ndarray
    bias: np.ndarray
    breeds: list[str]
    module: dict[str, str]
    l2: float
    batch_size: int
    history: dict[str, np.ndarray]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1."""
        return int(np.argmin(self.history["valid_loss"])) + 1

    @property
    def stopped_early(self) -> bool:
        """Whether the validation loss stopped falling before the limit of epochs."""
        return len(self.history["valid_loss"]) < MAX_EPOCHS

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the scores: [photos, features] to [photos, breeds]."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the softmax of the scores: [photos, features] to [photos, breeds]."""
        return softmax(self.logits(features))

    def __repr__(self) -> str:
        accuracy = self.history["valid_accuracy"][self.best_epoch - 1]
        limit = "" if self.stopped_early else " (stopped at the limit of epochs)"
        return (
            f"linear layer {self.kernel.shape[0]} x {self.kernel.shape[1]}, batches of"
            f" {self.batch_size}, L2 {self.l2:g}, {self.best_epoch} epochs{limit},"
            f" valid accuracy {accuracy:.3f}"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities that belong to scores.

    Parameters
    ----------
    logits : ndarray, float [..., breeds]
        Scores; only their differences matter.

    Returns
    -------
    ndarray, float [..., breeds]
        Positive numbers that sum to 1 along the last axis.

    Examples
    --------
    >>> dogtl.softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -log(probability of the correct breed); it's never infinite.

    Parameters
    ----------
    logits : ndarray, float [photos, breeds]
        Scores.
    labels : ndarray, int [photos]
        The correct breeds.

    Returns
    -------
    float
        The loss in nats.

    Examples
    --------
    >>> round(dogtl.cross_entropy(np.zeros((1, 12)), np.array([3])), 4)  # log(12)
    2.4849
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=-1))
    return float((log_sums - shifted[np.arange(len(labels)), labels]).mean())


def train(
    bottlenecks: dict[str, Bottlenecks], seed: int = 0, home: Path | None = None
) -> LinearLayer:
    """Return the linear layer for these bottlenecks; trained if it isn't there yet.

    One layer is trained for each batch size and L2 penalty, and the one with the
    lowest validation loss is kept. The test split isn't looked at.

    Parameters
    ----------
    bottlenecks : dict of str to Bottlenecks
        At least ``train`` and ``valid``, as `extract` returns them.
    seed : int, optional
        The random seed, for the order of the photos.
    home : Path, optional
        The folder for everything generated; unless given ``DOGTL_HOME``, else ``data``.

    Returns
    -------
    LinearLayer
        The layer.

    Raises
    ------
    DogtlError
        If a feature isn't a finite number.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> layer = dogtl.train(dogtl.extract(squares, module))
    >>> layer.kernel.shape
    (256, 12)
    """
    train, valid = bottlenecks["train"], bottlenecks["valid"]
    settings = [seed, BATCH_SIZES, L2S, PATIENCE, MAX_EPOCHS, train.module]
    arrays = (train.features, train.labels, valid.features, valid.labels)
    name = store.fingerprint(CODE, settings, train.breeds, *arrays)
    file = store.find_home(home) / "linear" / f"{name}.npz"
    layer = read_layer(file)
    if layer:
        log.info("linear layer: nothing to do")
        return layer
    choices = list(product(BATCH_SIZES, L2S))
    layers = [
        fit(train, valid, batch_size, l2, seed)
        for batch_size, l2 in progress(choices, len(choices), "linear layers")
    ]
    best = min(layers, key=lambda layer: layer.history["valid_loss"].min())
    if not best.stopped_early:
        log.warning("%s: its loss was still falling", best)
    save_layer(best, file)
    return best


def fit(
    train: Bottlenecks,
    valid: Bottlenecks,
    batch_size: int = 32,
    l2: float = 0.0,
    seed: int = 0,
    patience: int = PATIENCE,
) -> LinearLayer:
    """Train one dense layer with softmax and cross-entropy, by Adam.

    The features are divided by one number, their root mean square, since Adam's steps
    don't adapt to their scale; the kernel is divided by it in the end. Training starts
    at zero: the loss has one valley, so there is no symmetry to break. It stops once
    the loss over the whole of `valid` hasn't fallen for `patience` epochs and keeps the
    weights of the best one. The same seed on the same machine gives the same weights to
    the last digit.

    Parameters
    ----------
    train, valid : Bottlenecks
        To learn from, and to stop by.
    batch_size : int, optional
        Photos per step.
    l2 : float, optional
        The penalty on the squared kernel, for features with a root mean square of 1.
    seed : int, optional
        The random seed, for the order of the photos.
    patience : int, optional
        Epochs.

    Returns
    -------
    LinearLayer
        The layer; it takes features as they are.

    Raises
    ------
    DogtlError
        If a feature isn't a finite number.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> bottlenecks = dogtl.extract(squares, module)
    >>> layer = dogtl.fit(bottlenecks["train"], bottlenecks["valid"], l2=0.1)
    >>> layer.l2, len(layer.history["valid_loss"]) >= layer.best_epoch
    (0.1, True)
    """
    for data in (train, valid):
        check_finite(data.features, data.paths, data.module["name"])
    tf = import_tensorflow()
    import keras

    scale = np.sqrt(np.mean(np.square(train.features, dtype=np.float64))) or 1.0
    features = (train.features / scale).astype(np.float32)
    layer = keras.layers.Dense(
        len(train.breeds), kernel_initializer="zeros", dtype="float32"
    )
    layer.build(features.shape)
    train_epoch = make_train_epoch(layer, features, train.labels, batch_size, l2)
    shuffle = np.random.default_rng(seed)
    history: dict[str, list[float]] = {name: [] for name in HISTORY}
    best, best_weights = -1, []
    while len(history["valid_loss"]) < min(MAX_EPOCHS, best + 1 + max(1, patience)):
        train_epoch(tf.constant(shuffle.permutation(len(train.labels))))
        kernel, bias = layer.get_weights()
        weights = ((kernel / scale).astype(np.float32), bias)
        _record(history, weights, train, valid)
        if np.argmin(history["valid_loss"]) > best:
            best, best_weights = len(history["valid_loss"]) - 1, weights
    curves = {name: np.array(values) for name, values in history.items()}
    return LinearLayer(
        *best_weights, train.breeds, train.module, l2, batch_size, curves
    )


def make_train_epoch(
    layer, features: np.ndarray, labels: np.ndarray, batch_size: int, l2: float
) -> Callable:
    """Return a compiled function that trains a layer for one epoch.

    Each step of Adam lowers the mean cross-entropy of a batch plus `l2` times the sum
    of the squared kernel (Kingma and Ba, Adam, arXiv:1412.6980).

    Parameters
    ----------
    layer : keras.layers.Dense
        A layer that gives scores; it has its weights already.
    features : ndarray, float32 [photos, features]
        The bottlenecks.
    labels : ndarray, int64 [photos]
        Their breeds.
    batch_size : int
        Photos per step.
    l2 : float
        The penalty.

    Returns
    -------
    callable
        It takes the order of the photos, an int64 tensor [photos].

    Examples
    --------
    >>> tf = dogtl.import_tensorflow()
    >>> import keras
    >>> layer = keras.layers.Dense(2, kernel_initializer="zeros")
    >>> layer.build((None, 1))
    >>> features = np.array([[-1.0], [1.0]], np.float32)
    >>> train_epoch = dogtl.make_train_epoch(layer, features, np.array([0, 1]), 2, 0.0)
    >>> train_epoch(tf.constant([1, 0]))
    >>> layer.get_weights()[0].round(3)  # Adam's first step is its learning rate
    array([[-0.001,  0.001]], dtype=float32)
    """
    tf = import_tensorflow()
    import keras

    features, labels = tf.constant(features), tf.constant(labels)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adam = keras.optimizers.Adam()
    adam.build(layer.trainable_variables)

    @tf.function
    def train_epoch(order):
        for start in tf.range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            with tf.GradientTape() as tape:
                logits = layer(tf.gather(features, batch))
                loss = cross_entropy(tf.gather(labels, batch), logits)
                loss += l2 * tf.reduce_sum(layer.kernel**2)
            gradients = tape.gradient(loss, layer.trainable_variables)
            adam.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))

    return train_epoch


def history_table(layer: LinearLayer) -> dict[str, list]:
    """Return a layer's history as a table.

    Parameters
    ----------
    layer : LinearLayer
        As `train` or `fit` returns it.

    Returns
    -------
    dict of str to list
        ``epoch``, the four columns of the history, and ``best``, 1 at the best epoch.

    Examples
    --------
    >>> curves = {name: np.array([2.0, 1.0, 1.5]) for name in ("train_loss", "valid_loss")}
    >>> layer = dogtl.LinearLayer(np.ones((4, 2)), np.ones(2), ["a", "b"], {}, 0, 32, curves)
    >>> dogtl.history_table(layer)["best"]
    [0, 1, 0]
    """  # noqa: E501
    epochs = range(1, len(layer.history["valid_loss"]) + 1)
    best = [int(epoch == layer.best_epoch) for epoch in epochs]
    curves = {name: values.tolist() for name, values in layer.history.items()}
    return {"epoch": list(epochs), **curves, "best": best}


def check_module(layer: LinearLayer, name: str, fingerprint: str) -> None:
    """Raise DogtlError if a layer was trained with another module than this one."""
    if layer.module["fingerprint"] != fingerprint:
        raise DogtlError(
            f"the layer was trained with the module {layer.module['name']}, and this is"
            f" {name}, another one or another version: choose that one, or train again"
        )


def save_layer(layer: LinearLayer, file: Path) -> None:
    """Write a layer as ``.npz``: equal layers give equal bytes, and nothing can run."""
    fields = vars(layer) | layer.history | {"module": list(layer.module.values())}
    del fields["history"]
    store.save_arrays(file, fields)
    store.sweep(file.parent)


def read_layer(file: Path) -> LinearLayer | None:
    """Return a stored layer; None if it's missing or damaged."""
    fields = store.load_arrays(file)
    try:
        history = {name: fields.pop(name) for name in HISTORY}
        name, fingerprint = fields["module"]
        fields["module"] = {"name": name, "fingerprint": fingerprint}
        return LinearLayer(**fields, history=history)
    except (KeyError, TypeError, ValueError):
        return None


def _record(history: dict, weights: tuple, train: Bottlenecks, valid: Bottlenecks):
    """Add an epoch's loss and accuracy over both splits to the history."""
    for split, data in (("train", train), ("valid", valid)):
        logits = data.features @ weights[0] + weights[1]
        correct = logits.argmax(axis=1) == data.labels
        history[f"{split}_loss"].append(cross_entropy(logits, data.labels))
        history[f"{split}_accuracy"].append(float(correct.mean()))
