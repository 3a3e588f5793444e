"""Step 3, the linear layer: multinomial logistic regression on the bottlenecks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from dogtl.bottlenecks import Bottlenecks, extract
from dogtl.choices import Choice, log, progress, read_arrays, write_arrays
from dogtl.modules import tensorflow

BATCH_SIZES = (32, 128)
L2S = (0.0, 1e-3, 1e-2)
PATIENCE = 10  # epochs without a lower validation loss before training stops
MAX_EPOCHS = 300
HISTORY = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")


@dataclass(frozen=True)
class LinearLayer:
    """A dense layer with softmax: `kernel` float32 [features, breeds], `bias` [breeds].

    `history` has ``train_loss``, ``valid_loss``, ``train_accuracy`` and
    ``valid_accuracy``, one value an epoch, measured at its end over the whole split;
    the weights are those of the epoch with the lowest validation loss. `batch_size`
    and `l2` are what validation chose.
    """

    kernel: np.ndarray
    bias: np.ndarray
    breeds: list[str]
    module: str
    l2: float
    batch_size: int
    history: dict[str, np.ndarray]
    provenance: dict

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1."""
        return int(np.argmin(self.history["valid_loss"])) + 1

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """What the layer believes: [photos, features] to [photos, breeds]."""
        return softmax(features @ self.kernel + self.bias)

    def __str__(self) -> str:
        accuracy = self.history["valid_accuracy"][self.best_epoch - 1]
        return (
            f"linear layer {self.kernel.shape[0]} x {self.kernel.shape[1]}, batches of"
            f" {self.batch_size}, L2 {self.l2:g}, {self.best_epoch} epochs,"
            f" valid accuracy {accuracy:.3f}"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn scores [..., breeds] into probabilities; they sum to 1 on the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -log(probability of the right breed), in nats; never infinite."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=-1))
    return float((log_sums - shifted[np.arange(len(labels)), labels]).mean())


def train(
    choice: Choice, bottlenecks: dict[str, Bottlenecks] | None = None
) -> LinearLayer:
    """The linear layer on the chosen bottlenecks; trained if it is not there yet.

    One layer is trained for each batch size and each L2 penalty, and the one with the
    lowest validation loss is kept. The test split is not looked at.
    """
    bottlenecks = bottlenecks or extract(choice)
    train, valid = bottlenecks["train"], bottlenecks["valid"]
    folder = choice.folder("linear", train.provenance["size"])
    file = folder / f"seed-{choice.seed}.npz"
    provenance = {
        "train": train.provenance,
        "valid": valid.provenance,
        "settings": [choice.seed, BATCH_SIZES, L2S, PATIENCE, MAX_EPOCHS],
    }
    provenance = json.loads(json.dumps(provenance))  # as it will be read back
    layer = read_layer(file, provenance)
    if layer:
        log.info("linear layer: nothing to do")
        return layer
    settings = list(product(BATCH_SIZES, L2S))
    layers = [
        fit(train, valid, batch_size, l2, choice.seed)
        for batch_size, l2 in progress(settings, len(settings), "linear layers")
    ]
    best = min(layers, key=lambda layer: layer.history["valid_loss"].min())
    best = replace(best, provenance=provenance)
    with choice.lock():
        save_layer(best, file)
    return best


def history_table(layer: LinearLayer) -> dict[str, list]:
    """The layer's history as a table, with ``epoch`` and ``kept`` (1 at the best)."""
    epochs = range(1, len(layer.history["valid_loss"]) + 1)
    kept = [int(epoch == layer.best_epoch) for epoch in epochs]
    curves = {name: values.tolist() for name, values in layer.history.items()}
    return {"epoch": list(epochs), **curves, "kept": kept}


def fit(
    train: Bottlenecks,
    valid: Bottlenecks,
    batch_size: int = 32,
    l2: float = 0.0,
    seed: int = 0,
    patience: int = PATIENCE,
) -> LinearLayer:
    """Train one dense layer with softmax and cross-entropy, by Adam, on `train`.

    It starts at zero: the loss has one valley, so there is no symmetry to break. It
    stops once the loss over the whole of `valid` has not fallen for `patience` epochs
    and keeps the weights of the best one. The same seed on the same machine gives the
    same weights to the last digit.
    """
    tf = tensorflow()
    import keras

    layer = keras.layers.Dense(len(train.breeds), kernel_initializer="zeros")
    layer.build((None, train.features.shape[1]))
    run_epoch = epoch_of(layer, train, batch_size, l2)
    shuffle = np.random.default_rng(seed)
    history: dict[str, list[float]] = {name: [] for name in HISTORY}
    best, best_weights = -1, []
    while len(history["valid_loss"]) < min(MAX_EPOCHS, best + 1 + patience):
        run_epoch(tf.constant(shuffle.permutation(len(train.labels))))
        weights = layer.get_weights()
        for split, data in (("train", train), ("valid", valid)):
            logits = data.features @ weights[0] + weights[1]
            right = logits.argmax(axis=1) == data.labels
            history[f"{split}_loss"].append(cross_entropy(logits, data.labels))
            history[f"{split}_accuracy"].append(float(right.mean()))
        if np.argmin(history["valid_loss"]) > best:
            best, best_weights = len(history["valid_loss"]) - 1, weights
    curves = {name: np.array(values) for name, values in history.items()}
    module = train.provenance["module"]
    return LinearLayer(*best_weights, train.breeds, module, l2, batch_size, curves, {})


def epoch_of(layer, train: Bottlenecks, batch_size: int, l2: float) -> Callable:
    """One epoch of Adam as a compiled function of the photos' order (int64 [photos]).

    Each step lowers the mean cross-entropy of a batch plus `l2` times the sum of the
    squared kernel (Kingma and Ba, Adam, arXiv:1412.6980).
    """
    tf = tensorflow()
    import keras

    features, labels = tf.constant(train.features), tf.constant(train.labels)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adam = keras.optimizers.Adam()
    adam.build(layer.trainable_variables)

    @tf.function
    def run_epoch(order):
        for start in tf.range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            with tf.GradientTape() as tape:
                logits = layer(tf.gather(features, batch))
                loss = cross_entropy(tf.gather(labels, batch), logits)
                loss += l2 * tf.reduce_sum(layer.kernel**2)
            gradients = tape.gradient(loss, layer.trainable_variables)
            adam.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))

    return run_epoch


def save_layer(layer: LinearLayer, file: Path) -> None:
    """Write a layer as ``.npz``: equal layers give equal bytes, and nothing can run."""
    fields = {**vars(layer), **layer.history}
    del fields["history"]
    write_arrays(file, fields)


def read_layer(file: Path, provenance: dict | None = None) -> LinearLayer | None:
    """Read a layer; None if there is none, or none of that provenance."""
    fields = read_arrays(file, provenance)
    if not fields:
        return None
    history = {name: fields.pop(name) for name in HISTORY}
    numbers = {name: fields[name].item() for name in ("l2", "batch_size")}
    return LinearLayer(**{**fields, **numbers}, history=history)
