"""Step 4, evaluation: how good the layer is on withheld photos, and how sure we are."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dogtl.bottlenecks import Bottlenecks, extract, features_of
from dogtl.choices import Choice
from dogtl.linear import LinearLayer, train
from dogtl.modules import describe, input_size, load
from dogtl.photos import UnreadablePhoto
from dogtl.squares import square_jpeg

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
PER_BREED = ("breed", "photos", "right", "accuracy", "low", "high")


@dataclass(frozen=True)
class Evaluation:
    """What the layer believes of each test photo, and what is right.

    `probabilities` is [photos, breeds], `labels` int64 [photos], `paths` the photos;
    `n_left_out` photos of all splits could not be used.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    breeds: list[str]
    paths: list[str]
    n_left_out: int

    @property
    def guesses(self) -> np.ndarray:
        """The most probable breed of each photo, int64 [photos]."""
        return self.probabilities.argmax(axis=1)

    @property
    def right(self) -> np.ndarray:
        """Which guesses are right, bool [photos]."""
        return self.guesses == self.labels

    @property
    def accuracy(self) -> float:
        """The share of photos whose breed is guessed right."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % Wilson interval."""
        return wilson(int(self.right.sum()), len(self.right))

    @property
    def top5(self) -> float | None:
        """The share with the right breed among the first five; None under 5 breeds."""
        if len(self.breeds) < 5:
            return None
        five = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :5]
        return float((five == self.labels[:, None]).any(axis=1).mean())

    @property
    def confusion(self) -> np.ndarray:
        """How many photos of each breed (row) were guessed as each breed (column)."""
        counts = np.zeros((len(self.breeds),) * 2, dtype=np.int64)
        np.add.at(counts, (self.labels, self.guesses), 1)
        return counts

    def __str__(self) -> str:
        low, high = self.interval
        return f"accuracy {self.accuracy:.3f} [{low:.3f}, {high:.3f}]"


def evaluate(
    choice: Choice,
    bottlenecks: dict[str, Bottlenecks] | None = None,
    layer: LinearLayer | None = None,
) -> Evaluation:
    """Evaluate the chosen linear layer on the test split."""
    bottlenecks = bottlenecks or extract(choice)
    layer = layer or train(choice, bottlenecks)
    test = bottlenecks["test"]
    believed = layer.probabilities(test.features)
    n_left_out = sum(len(split.left_out) for split in bottlenecks.values())
    return Evaluation(believed, test.labels, test.breeds, test.paths, n_left_out)


def summary(evaluation: Evaluation, choice: Choice) -> dict:
    """The evaluation's figures, unrounded, as ``dogtl evaluate --json`` prints them."""
    return {
        "accuracy": evaluation.accuracy,
        "interval": list(evaluation.interval),
        "top5": evaluation.top5,
        "n_photos": len(evaluation.labels),
        "n_breeds": len(evaluation.breeds),
        "n_left_out": evaluation.n_left_out,
        "photos": choice.photos,
        "module": choice.module,
    }


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, `right` of `n` (Wilson, 1927, JASA 22:209-212)."""
    share, wide = right / n, Z * Z / n
    centre = (share + wide / 2) / (1 + wide)
    half = Z / (1 + wide) * math.sqrt(share * (1 - share) / n + wide / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_test(right: np.ndarray, other: np.ndarray) -> float:
    """How often two equally good layers would differ at least so unevenly: the p-value.

    `right` and `other` say which photos each got right, bool [photos]. If both are
    equally good, each photo that only one got right is the toss of a fair coin (exact
    test; McNemar, 1947, Psychometrika 12:153).
    """
    wins, losses = int((right & ~other).sum()), int((other & ~right).sum())
    tosses, fewer = wins + losses, min(wins, losses)
    ways = sum(math.comb(tosses, heads) for heads in range(fewer + 1))
    return min(1.0, 2 * ways / 2**tosses)


def per_breed(evaluation: Evaluation) -> dict[str, list]:
    """A table by breed: test photos, how many are guessed right, accuracy, interval.

    Its columns are `PER_BREED`. Breeds without a test photo are not in it.
    """
    table: dict[str, list] = {name: [] for name in PER_BREED}
    for breed, row in enumerate(evaluation.confusion):
        if n := int(row.sum()):
            right = int(row[breed])
            values = (evaluation.breeds[breed], n, right, right / n, *wilson(right, n))
            for name, value in zip(PER_BREED, values, strict=True):
                table[name].append(value)
    return table


def confusion_table(evaluation: Evaluation) -> dict[str, list]:
    """The confusion as a table: ``breed``, ``guess`` and ``photos``, all pairs."""
    names = evaluation.breeds
    return {
        "breed": [breed for breed in names for _ in names],
        "guess": [guess for _ in names for guess in names],
        "photos": evaluation.confusion.ravel().tolist(),
    }


def confused_pairs(evaluation: Evaluation, most: int = 10) -> dict[str, list]:
    """The most frequent mistakes, as in `confusion_table`, most frequent first."""
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    order = order[wrong.ravel()[order] > 0]
    table = confusion_table(evaluation)
    return {name: [column[i] for i in order] for name, column in table.items()}


def worst_mistakes(evaluation: Evaluation, most: int = 12) -> dict[str, list]:
    """The wrong guesses that the layer was surest of, as a table, surest first.

    Its columns: ``photo``, ``breed``, ``guess`` and the guess's ``probability``.
    """
    wrong = np.flatnonzero(~evaluation.right)
    sureness = evaluation.probabilities.max(axis=1)
    rows = wrong[np.argsort(-sureness[wrong], kind="stable")][:most]
    return {
        "photo": [evaluation.paths[row] for row in rows],
        "breed": [evaluation.breeds[evaluation.labels[row]] for row in rows],
        "guess": [evaluation.breeds[evaluation.guesses[row]] for row in rows],
        "probability": sureness[rows].tolist(),
    }


def predict(choice: Choice, photos: list[str | Path], most: int = 5) -> list[dict]:
    """Guess the breeds of any photo files.

    Gives for each ``{"photo": …, "guesses": [{"breed": …, "probability": …}, …]}``,
    the `most` probable breeds first, or ``{"photo": …, "error": …}``.
    """
    layer = train(choice)
    module, size = describe(choice), input_size(choice)
    jpegs, results = [], []
    for photo in map(str, photos):
        try:
            with warnings.catch_warnings(action="ignore"):
                jpegs.append(square_jpeg(Path(photo), size))
            results.append({"photo": photo})
        except UnreadablePhoto as error:
            results.append({"photo": photo, "error": str(error)})
    if jpegs:
        network = load(module.handle, module.stamp)
        believed = layer.probabilities(np.concatenate([*features_of(network, jpegs)]))
        good = [result for result in results if "error" not in result]
        for result, row in zip(good, believed, strict=True):
            order = np.argsort(-row, kind="stable")[:most]
            result["guesses"] = [
                {"breed": layer.breeds[i], "probability": float(row[i])} for i in order
            ]
    return results
