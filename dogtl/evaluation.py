"""Step 4, evaluation: how good the layer is on held-out photos, and how sure."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dogtl.bottlenecks import Bottlenecks, check_finite
from dogtl.linear import LinearLayer, check_module

Z = 1.959964  # 95 % of a normal distribution lie within this many standard deviations
PER_BREED = ("breed", "photos", "correct", "accuracy", "low", "high")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What the layer predicts for each test photo, and what is correct.

    Attributes
    ----------
    probabilities : ndarray, float32 [photos, breeds]
        The layer's.
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
        """The share with the correct breed among the first 5; None up to 5 breeds."""
        if len(self.breeds) <= 5:
            return None
        five = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :5]
        return float((five == self.labels[:, None]).any(axis=1).mean())

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

    Nothing is stored, since this takes milliseconds.

    Parameters
    ----------
    layer : LinearLayer
        As `train` or `fit` returns it.
    test : Bottlenecks
        Photos that the layer wasn't trained on, nor chosen by.

    Returns
    -------
    Evaluation
        Predictions, accuracy and its interval.

    Raises
    ------
    DogtlError
        If the layer belongs to another module, or a feature isn't a finite number.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> bottlenecks = dogtl.extract(squares, module)
    >>> evaluation = dogtl.evaluate(dogtl.train(bottlenecks), bottlenecks["test"])
    >>> evaluation.accuracy > 0.85
    True
    """
    check_module(layer, **test.module)
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
    share, wide = correct / n, Z * Z / n
    centre = (share + wide / 2) / (1 + wide)
    half = Z / (1 + wide) * math.sqrt(share * (1 - share) / n + wide / (4 * n))
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
    """Return a table by breed; breeds without a test photo aren't in it.

    Parameters
    ----------
    evaluation : Evaluation
        As `evaluate` returns it.

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
    rows = []
    for label, counts in enumerate(evaluation.confusion):
        breed, n, correct = evaluation.breeds[label], counts.sum(), counts[label]
        if n:
            row = (breed, int(n), int(correct), float(correct / n))
            rows.append((*row, *wilson_interval(int(correct), int(n))))
    return dict(zip(PER_BREED, map(list, zip(*rows, strict=True)), strict=True))


def confusion_table(evaluation: Evaluation) -> dict[str, list]:
    """Return the confusion matrix as a table.

    Parameters
    ----------
    evaluation : Evaluation
        As `evaluate` returns it.

    Returns
    -------
    dict of str to list
        ``breed``, ``prediction`` and ``photos``: a row for each pair of breeds.

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
        As `evaluate` returns it.
    top : int, optional
        How many pairs at most.

    Returns
    -------
    dict of str to list
        ``breed``, ``prediction`` and ``photos``; ``left_out``, the same in each row, is
        the number of pairs that `top` cut off.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> labels, paths = np.array([0, 1, 1]), [Path("a.jpg")] * 3
    >>> evaluation = dogtl.Evaluation(probabilities, labels, ["hound", "pug"], paths)
    >>> dogtl.confused_pairs(evaluation)
    {'breed': ['pug'], 'prediction': ['hound'], 'photos': [1], 'left_out': [0]}
    """
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    first, table = order[:top], confusion_table(evaluation)
    pairs = {name: [column[i] for i in first] for name, column in table.items()}
    return {**pairs, "left_out": [len(order) - len(first)] * len(first)}


def most_confident_errors(evaluation: Evaluation, top: int = 12) -> dict[str, list]:
    """Return the wrong predictions that the layer was most confident of.

    Parameters
    ----------
    evaluation : Evaluation
        As `evaluate` returns it.
    top : int, optional
        How many at most.

    Returns
    -------
    dict of str to list
        ``row`` (an index into the test photos), ``photo``, ``breed``, ``prediction``
        and ``confidence``, most confident first.

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
