"""Step 4, evaluation: how good the layer is on held-out photos, with intervals."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dogtl.base import DogtlError
from dogtl.bottlenecks import Bottlenecks, check_finite
from dogtl.linear import LinearLayer, check_module

Z_95 = 1.959964  # 95 % of a normal distribution lies within ± this many deviations


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Predicted probabilities and correct breeds of the test photos.

    Attributes
    ----------
    probabilities : ndarray, float32 [photos, breeds]
        Predicted probabilities.
    labels : ndarray, int64 [photos]
        The correct breeds, as indices into `breeds`.
    breeds : list of str
        The classes.
    paths : list of Path
        The photos.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    breeds: list[str]
    paths: list[Path]

    @property
    def predictions(self) -> np.ndarray:
        """The most probable breed of each photo, int64 [photos]."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidences(self) -> np.ndarray:
        """The probability of each prediction, float32 [photos]."""
        return self.probabilities.max(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Which predictions are correct, bool [photos]."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """The share of photos whose prediction is correct."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % confidence interval (Wilson's)."""
        return wilson_interval(int(self.correct.sum()), len(self.correct))

    @property
    def top5(self) -> float | None:
        """The top-5 accuracy; None if there are 5 breeds or fewer."""
        if len(self.breeds) <= 5:
            return None
        first_5 = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :5]
        return float((first_5 == self.labels[:, None]).any(axis=1).mean())

    @property
    def confusion(self) -> np.ndarray:
        """How many photos of each breed (row) got each prediction (column)."""
        counts = np.zeros((len(self.breeds),) * 2, dtype=np.int64)
        np.add.at(counts, (self.labels, self.predictions), 1)
        return counts

    def __repr__(self) -> str:
        low, high = self.interval
        return f"accuracy {self.accuracy:.3f} [{low:.3f}, {high:.3f}]"


def evaluate(layer: LinearLayer, test: Bottlenecks) -> Evaluation:
    """Evaluate a linear layer on held-out photos.

    The result isn't stored, since this takes milliseconds.

    Parameters
    ----------
    layer : LinearLayer
        As returned by `train` or `fit`.
    test : Bottlenecks
        Photos that the layer wasn't trained on, and that weren't used to select it.

    Returns
    -------
    Evaluation
        Predictions, accuracy and its interval.

    Raises
    ------
    DogtlError
        If the layer was trained with another module, or a feature isn't finite.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> bottlenecks = dogtl.extract(squares, module)
    >>> evaluation = dogtl.evaluate(dogtl.train(bottlenecks), bottlenecks["test"])
    >>> evaluation.accuracy > 0.85
    True
    """
    check_module(layer, test.module["name"], test.module["fingerprint"])
    if layer.breeds != test.breeds:
        raise DogtlError("the layer knows other breeds: train it on these photos")
    check_finite(test.features, test.paths, test.module["name"])
    probabilities = layer.probabilities(test.features)
    return Evaluation(probabilities, test.labels, test.breeds, test.paths)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share.

    The method is Wilson's (1927, JASA 22:209-212).

    Parameters
    ----------
    correct, n : int
        The share is `correct` of `n`.

    Returns
    -------
    tuple of float
        The lower and the upper end, within 0 and 1.

    Examples
    --------
    >>> low, high = dogtl.wilson_interval(18, 20)
    >>> round(low, 3), round(high, 3)
    (0.699, 0.972)
    """
    share = correct / n
    weight = Z_95**2 / n  # of 1/2, which the centre is pulled towards
    centre = (share + weight / 2) / (1 + weight)
    half = Z_95 / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_test(correct: np.ndarray, other: np.ndarray) -> float:
    """Return the p-value of McNemar's test on whether two layers are equally good.

    If both are equally good, each photo that only one of them got correct is the toss
    of a fair coin. The test is exact and two-sided (1947, Psychometrika 12:153).

    Parameters
    ----------
    correct, other : ndarray, bool [photos]
        Which of the same photos each layer got correct.

    Returns
    -------
    float
        How often two equally good layers would differ at least this unevenly.

    Examples
    --------
    >>> only_first = np.arange(10) < 9  # of ten photos on which they differ
    >>> round(dogtl.mcnemar_test(only_first, ~only_first), 4)
    0.0215
    """
    wins, losses = int((correct & ~other).sum()), int((other & ~correct).sum())
    tosses, fewer = wins + losses, min(wins, losses)
    ways = sum(math.comb(tosses, heads) for heads in range(fewer + 1))
    return min(1.0, 2 * ways / 2**tosses)


def per_breed(evaluation: Evaluation) -> dict[str, list]:
    """Return a table with a row for each breed that has test photos.

    Parameters
    ----------
    evaluation : Evaluation
        As returned by `evaluate`.

    Returns
    -------
    dict of str to list
        ``breed``, ``photos``, ``correct``, ``accuracy``, ``low`` and ``high``.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> labels, paths = np.array([0, 1, 1]), [Path("a.jpg")] * 3
    >>> evaluation = dogtl.Evaluation(probabilities, labels, ["hound", "pug"], paths)
    >>> dogtl.per_breed(evaluation)["accuracy"]
    [1.0, 0.5]
    """
    photos_by_label = evaluation.confusion.sum(axis=1)
    tested = np.flatnonzero(photos_by_label)
    photos = photos_by_label[tested].tolist()
    correct = evaluation.confusion.diagonal()[tested].tolist()
    intervals = list(map(wilson_interval, correct, photos))
    return {
        "breed": [evaluation.breeds[label] for label in tested],
        "photos": photos,
        "correct": correct,
        "accuracy": [k / n for k, n in zip(correct, photos, strict=True)],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
    }


def confusion_table(evaluation: Evaluation) -> dict[str, list]:
    """Return the confusion matrix as a table.

    Parameters
    ----------
    evaluation : Evaluation
        As returned by `evaluate`.

    Returns
    -------
    dict of str to list
        ``breed``, ``prediction`` and ``photos``, with a row for each pair of breeds.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> labels, paths = np.array([0, 1, 1]), [Path("a.jpg")] * 3
    >>> evaluation = dogtl.Evaluation(probabilities, labels, ["hound", "pug"], paths)
    >>> dogtl.confusion_table(evaluation)["photos"]
    [1, 0, 1, 1]
    """
    names = evaluation.breeds
    return {
        "breed": [breed for breed in names for _ in names],
        "prediction": [prediction for _ in names for prediction in names],
        "photos": evaluation.confusion.ravel().tolist(),
    }


def confused_pairs(evaluation: Evaluation, top: int = 10) -> dict[str, list]:
    """Return the most frequent mistakes, most frequent first.

    Parameters
    ----------
    evaluation : Evaluation
        As returned by `evaluate`.
    top : int, optional
        How many pairs at most.

    Returns
    -------
    dict of str to list
        ``breed``, ``prediction``, ``photos`` and, the same in each row, ``left_out``:
        the number of pairs that `top` cut off.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> labels, paths = np.array([0, 1, 1]), [Path("a.jpg")] * 3
    >>> evaluation = dogtl.Evaluation(probabilities, labels, ["hound", "pug"], paths)
    >>> dogtl.confused_pairs(evaluation)
    {'breed': ['pug'], 'prediction': ['hound'], 'photos': [1], 'left_out': [0]}
    """
    mistakes = evaluation.confusion.copy()
    np.fill_diagonal(mistakes, 0)
    n_pairs = int(np.count_nonzero(mistakes))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:n_pairs]
    shown = order[:top]  # these are rows of the confusion table
    table = confusion_table(evaluation)
    pairs = {name: [column[row] for row in shown] for name, column in table.items()}
    return {**pairs, "left_out": [n_pairs - len(shown)] * len(shown)}


def most_confident_errors(evaluation: Evaluation, top: int = 12) -> dict[str, list]:
    """Return the wrong predictions that the layer was most confident of.

    Parameters
    ----------
    evaluation : Evaluation
        As returned by `evaluate`.
    top : int, optional
        How many at most.

    Returns
    -------
    dict of str to list
        ``row`` (an index into the test photos), ``photo``, ``breed``, ``prediction``
        and ``confidence``; the most confident comes first.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> labels, paths = np.array([0, 1, 1]), [Path("a.jpg")] * 3
    >>> evaluation = dogtl.Evaluation(probabilities, labels, ["hound", "pug"], paths)
    >>> dogtl.most_confident_errors(evaluation)["row"]
    [1]
    """
    wrong = np.flatnonzero(~evaluation.correct)
    confidences = evaluation.confidences
    rows = wrong[np.argsort(-confidences[wrong], kind="stable")][:top]
    breeds = evaluation.breeds
    return {
        "row": rows.tolist(),
        "photo": [evaluation.paths[row] for row in rows],
        "breed": [breeds[evaluation.labels[row]] for row in rows],
        "prediction": [breeds[evaluation.predictions[row]] for row in rows],
        "confidence": confidences[rows].tolist(),
    }
