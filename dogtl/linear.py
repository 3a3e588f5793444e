"""Step 3, the linear layer: multinomial logistic regression on the bottlenecks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dogtl import store
from dogtl.base import DogtlError, log, progress
from dogtl.bottlenecks import MAX_FEATURE, Bottlenecks, check_finite

# from too weak to too strong, in rising order, since `train` prefers the last good one
L2_PENALTIES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
LOSS_TOLERANCE = 1.01  # a loss up to 1 % above the lowest counts as equally good
LOSS_LIMIT = 1.1  # once a loss is 10 % above the lowest, no stronger penalty is tried
PATIENCE = 20  # epochs without a lower validation loss before training stops
MAX_EPOCHS = 300
# this share of the mean variance is added, so nearly constant features aren't blown up
VARIANCE_SHARE = 0.1
MIN_SPREAD = 1e-33  # features below count as constant: their weights would overflow
HISTORY = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")
FIELD_TYPES = dict.fromkeys(("kernel", "bias", *HISTORY), np.ndarray)  # as stored
FIELD_TYPES |= {"breeds": list, "module": list, "l2": float}
CODE = store.code_version(__file__, "scipy", "numpy")


@dataclass(frozen=True, eq=False, repr=False)
class LinearLayer:
    """A dense layer with softmax, for unstandardized bottlenecks.

    Attributes
    ----------
    kernel : ndarray, float32 [features, breeds]
        The weights.
    bias : ndarray, float32 [breeds]
        The constant term of each breed's score.
    breeds : list of str
        The classes, in the columns' order.
    module : dict of str to str
        The ``name`` and the ``fingerprint`` of the module it was trained with.
    l2 : float
        The L2 penalty that it was trained with.
    history : dict of str to ndarray, float64 [epochs]
        ``train_loss``, ``valid_loss``, ``train_accuracy`` and ``valid_accuracy`` over
        the whole split at the end of each epoch.
    """

    kernel: np.ndarray
    bias: np.ndarray
    breeds: list[str]
    module: dict[str, str]
    l2: float
    history: dict[str, np.ndarray]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1."""
        return int(np.argmin(self.history["valid_loss"])) + 1

    @property
    def stopped_early(self) -> bool:
        """Whether training ended before it reached `MAX_EPOCHS`."""
        return len(self.history["valid_loss"]) < MAX_EPOCHS

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the scores: [photos, features] to [photos, breeds].

        Raises DogtlError if they're too large for 32-bit numbers.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            scores = features @ self.kernel + self.bias
        if not np.isfinite(scores).all():
            problem = "some bottlenecks are far larger than those it was trained on"
            raise DogtlError(f"{problem}: train the layer again, or use another module")
        return scores

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the softmax of the scores: [photos, features] to [photos, breeds]."""
        return softmax(self.logits(features))

    def __repr__(self) -> str:
        accuracy = self.history["valid_accuracy"][self.best_epoch - 1]
        limit = "" if self.stopped_early else " (stopped at the limit of epochs)"
        return (
            f"linear layer {self.kernel.shape[0]} x {self.kernel.shape[1]}, L2"
            f" {self.l2:g}, {self.best_epoch} epochs{limit}, valid accuracy"
            f" {accuracy:.3f}"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities for scores.

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
    losses = log_sums - shifted[np.arange(len(labels)), labels]
    return float(losses.mean(dtype=np.float64))


def loss_and_gradient(
    weights: np.ndarray, features: np.ndarray, labels: np.ndarray, l2: float = 0.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return a layer's loss, its gradient, and the scores.

    The loss is the mean cross-entropy plus `l2` times the sum of the squared kernel.

    Parameters
    ----------
    weights : ndarray, float [features + 1, breeds]
        The kernel, and the bias as the last row.
    features : ndarray, float [photos, features]
        The bottlenecks.
    labels : ndarray, int [photos]
        The correct breeds.
    l2 : float, optional
        The penalty.

    Returns
    -------
    loss : float
        In nats.
    gradient : ndarray, float [features + 1, breeds]
        The slope of the loss along each weight.
    logits : ndarray, float [photos, breeds]
        The scores.

    Examples
    --------
    >>> features, labels = np.array([[1.0, 2.0]]), np.array([0])
    >>> loss, gradient, _ = dogtl.loss_and_gradient(np.zeros((3, 2)), features, labels)
    >>> round(loss, 3)  # log(2)
    0.693
    >>> gradient.tolist()  # features times p - t, and p - t
    [[-0.5, 0.5], [-1.0, 1.0], [-0.5, 0.5]]
    """
    kernel, bias = weights[:-1], weights[-1]
    logits = features @ kernel + bias
    errors = softmax(logits)
    errors[np.arange(len(labels)), labels] -= 1  # p - t
    loss = cross_entropy(logits, labels) + l2 * float(np.sum(kernel**2))
    gradient = features.T @ errors / len(labels) + 2 * l2 * kernel
    return loss, np.vstack([gradient, errors.mean(axis=0)]), logits


def train(bottlenecks: dict[str, Bottlenecks], home: Path | None = None) -> LinearLayer:
    """Return the layer with the best L2 penalty; `fit` trains with a given one.

    One layer is trained for each L2 penalty. Of those whose validation loss is within
    1 % of the lowest, the one with the strongest penalty is kept: it's as good, with
    smaller weights. The test split isn't used. The layer is stored, and read from there
    the next time.

    Parameters
    ----------
    bottlenecks : dict of str to Bottlenecks
        At least ``train`` and ``valid``, as returned by `extract`.
    home : Path, optional
        The folder for everything generated; defaults to ``DOGTL_HOME``, then ``data``.

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
    train_split, valid_split = bottlenecks["train"], bottlenecks["valid"]
    settings = [L2_PENALTIES, LOSS_TOLERANCE, LOSS_LIMIT, PATIENCE, MAX_EPOCHS]
    arrays = (train_split.features, train_split.labels)
    arrays += (valid_split.features, valid_split.labels)
    module, breeds = train_split.module, train_split.breeds
    name = store.fingerprint(CODE, settings, module, breeds, *arrays)
    file = store.find_home(home) / "linear" / f"{name}.npz"
    layer = read_layer(file)
    if layer and len(layer.kernel) == train_split.features.shape[1]:
        log.info("linear layer: nothing to do")
    else:
        layer = _fit_each(train_split, valid_split)
        save_layer(layer, file)
    if not layer.kernel.any():
        log.warning("all bottlenecks of train are equal: choose another module")
    if not layer.stopped_early:
        log.warning("%s: training longer may help", layer)
    return layer


def _fit_each(train: Bottlenecks, valid: Bottlenecks) -> LinearLayer:
    """Fit a layer for each penalty; return the one that `train` keeps."""
    layers = []
    for l2 in progress(L2_PENALTIES, len(L2_PENALTIES), "linear layers"):
        layers.append(fit(train, valid, l2))
        losses = np.array([layer.history["valid_loss"].min() for layer in layers])
        if losses[-1] > LOSS_LIMIT * losses.min():
            break  # stronger penalties are usually even worse
    good = np.flatnonzero(losses <= LOSS_TOLERANCE * losses.min())
    return layers[good[-1]]  # the last one has the strongest penalty


def fit(
    train: Bottlenecks, valid: Bottlenecks, l2: float = 0.0, patience: int = PATIENCE
) -> LinearLayer:
    """Train one linear layer with a given L2 penalty, by L-BFGS.

    The loss is convex, so there's no local minimum to get stuck in. L-BFGS (Liu and
    Nocedal 1989, Math. Program. 45:503) estimates the curvature from past steps, and
    needs a few dozen. Each step uses all photos, so it's an epoch. Training starts at
    zero, stops once the loss on `valid` hasn't fallen for `patience` epochs, and keeps
    the weights of the best epoch. Equal bottlenecks always give equal weights.

    Training uses standardized features (centred, and scaled to about unit variance), so
    their scale doesn't matter. The returned layer takes unstandardized ones.

    Parameters
    ----------
    train, valid : Bottlenecks
        Training data, and data for early stopping.
    l2 : float, optional
        The penalty on the squared kernel, for standardized features.
    patience : int, optional
        Epochs without a lower validation loss before training stops.

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
    >>> bottlenecks = dogtl.extract(squares, module)
    >>> layer = dogtl.fit(bottlenecks["train"], bottlenecks["valid"], l2=0.1)
    >>> layer.l2, len(layer.history["valid_loss"]) >= layer.best_epoch
    (0.1, True)
    """
    for data in (train, valid):
        check_finite(data.features, data.paths, data.module["name"])
    mean, spread = _mean_and_spread(train.features)
    inputs = (train.features - mean) / spread
    with np.errstate(over="ignore"):  # reported below
        valid_inputs = (valid.features - mean) / spread
    if not np.abs(valid_inputs).max() <= MAX_FEATURE:
        problem = f"{valid.module['name']} gives far larger bottlenecks for valid"
        raise DogtlError(f"{problem} than for train: choose another module")
    splits = {"train": (inputs, train.labels), "valid": (valid_inputs, valid.labels)}
    weights, history = _minimize_loss(splits, len(train.breeds), l2, patience)
    kernel = weights[:-1] / spread[:, None]  # for unstandardized features
    bias = weights[-1] - mean @ kernel
    return LinearLayer(kernel, bias, train.breeds, train.module, l2, history)


def _minimize_loss(splits: dict, n_breeds: int, l2: float, patience: int) -> tuple:
    """Return the weights of the best epoch, and the history of all epochs.

    `splits` holds the standardized features and the labels of ``train`` and ``valid``.
    """
    from scipy.optimize import minimize

    features, train_labels = splits["train"]
    shape = (features.shape[1] + 1, n_breeds)
    history: dict[str, list[float]] = {name: [] for name in HISTORY}
    best_weights = None

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape).astype(np.float32)
        loss, gradient, _ = loss_and_gradient(weights, features, train_labels, l2)
        return loss, gradient.ravel().astype(np.float64)

    def after_epoch(flat: np.ndarray) -> None:
        nonlocal best_weights
        weights = flat.reshape(shape).astype(np.float32)
        for split, (inputs, labels) in splits.items():
            logits = inputs @ weights[:-1] + weights[-1]
            accuracy = (logits.argmax(axis=1) == labels).mean()
            history[f"{split}_loss"].append(cross_entropy(logits, labels))
            history[f"{split}_accuracy"].append(accuracy)
        epoch = len(history["valid_loss"]) - 1
        best_epoch = np.argmin(history["valid_loss"])  # both are counted from 0
        if epoch == best_epoch:
            best_weights = weights
        elif epoch - best_epoch >= patience:
            raise StopIteration  # SciPy ends the minimization

    start = np.zeros(np.prod(shape))
    minimize(
        objective,  # returns the loss and its gradient
        start,
        jac=True,
        method="L-BFGS-B",
        callback=after_epoch,
        options={"maxiter": MAX_EPOCHS},
    )
    if best_weights is None:  # constant features: SciPy stops before the first epoch
        after_epoch(start)
    return best_weights, {name: np.array(values) for name, values in history.items()}


def history_table(layer: LinearLayer) -> dict[str, list]:
    """Return a layer's history as a table.

    Parameters
    ----------
    layer : LinearLayer
        As returned by `train` or `fit`.

    Returns
    -------
    dict of str to list
        ``epoch``, the four columns of the history, and ``best``, 1 at the best epoch.

    Examples
    --------
    >>> curves = {"valid_loss": np.array([2.0, 1.0, 1.5])}
    >>> layer = dogtl.LinearLayer(np.eye(2), np.ones(2), ["a", "b"], {}, 0, curves)
    >>> dogtl.history_table(layer)["best"]
    [0, 1, 0]
    """
    epochs = range(1, len(layer.history["valid_loss"]) + 1)
    best = [int(epoch == layer.best_epoch) for epoch in epochs]
    curves = {name: values.tolist() for name, values in layer.history.items()}
    return {"epoch": list(epochs), **curves, "best": best}


def check_module(layer: LinearLayer, name: str, fingerprint: str) -> None:
    """Raise DogtlError if a layer was trained with another module than this one."""
    if layer.module["fingerprint"] != fingerprint:
        raise DogtlError(
            f"the layer was trained with the module {layer.module['name']}, and this is"
            f" {name}, a different module or version: choose the layer's, or train"
            " again"
        )


def save_layer(layer: LinearLayer, file: Path) -> None:
    """Write a layer as ``.npz``: equal layers give equal bytes."""
    fields = vars(layer) | layer.history | {"module": list(layer.module.values())}
    del fields["history"]
    store.save_arrays(file, fields)


def read_layer(file: Path) -> LinearLayer | None:
    """Return a stored layer; None if it's missing or damaged."""
    fields = store.load_arrays(file)
    if {name: type(value) for name, value in fields.items()} != FIELD_TYPES:
        return None
    kernel, bias, breeds = fields["kernel"], fields["bias"], fields["breeds"]
    history = {name: fields[name] for name in HISTORY}
    n_epochs = history["valid_loss"].size
    is_whole = (
        kernel.dtype == bias.dtype == np.float32
        and kernel.shape[1:] == bias.shape == (len(breeds),)
        and n_epochs > 0
        and all(curve.shape == (n_epochs,) for curve in history.values())
        and len(fields["module"]) == 2
    )
    if not is_whole:
        return None
    name, fingerprint = fields["module"]
    module = {"name": name, "fingerprint": fingerprint}
    return LinearLayer(kernel, bias, breeds, module, fields["l2"], history)


def _mean_and_spread(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's mean and a regularized standard deviation."""
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    spread = np.sqrt(variance + VARIANCE_SHARE * variance.mean())
    spread[spread < MIN_SPREAD] = np.inf  # so that its weight is 0
    return mean.astype(np.float32), spread.astype(np.float32)
