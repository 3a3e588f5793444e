"""The embedded default gives what README and lessons say, to within some photos."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import dogtl
from dogtl.evaluation import confused_pairs, worst_mistakes
from dogtl.linear import cross_entropy, fit
from dogtl.modules import describe, load
from dogtl.toy.kennel import LOOK_ALIKES

HOME = os.environ.get("DOGTL_HOME")  # the notebooks' home, with all steps done
RIGHT, PHOTOS = 220, 240


@pytest.fixture(scope="module")
def choice(tmp_path_factory):
    """The kennel and the toy module."""
    return dogtl.choose("kennel", "toy", home=HOME or tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bottlenecks(choice):
    """Those of the kennel."""
    return dogtl.extract(choice)


@pytest.fixture(scope="module")
def layer(choice, bottlenecks):
    """Trained on them."""
    return dogtl.train(choice, bottlenecks)


@pytest.fixture(scope="module")
def result(choice, bottlenecks, layer):
    """Its evaluation."""
    return dogtl.evaluate(choice, bottlenecks, layer)


def are_alike(breed: str, guess: str) -> bool:
    """Whether two breeds were drawn as look-alikes."""
    pair = {name.partition(".")[2] for name in (breed, guess)}
    return pair in map(set, LOOK_ALIKES)


def test_accuracy_on_the_kennel(result):
    assert len(result.labels) == PHOTOS and result.n_left_out == 0
    assert abs(int(result.right.sum()) - RIGHT) <= 3
    assert np.isclose(result.top5, 1, atol=0.01)


def test_training_is_as_lesson_3_says(bottlenecks, layer):
    train, valid = bottlenecks["train"], bottlenecks["valid"]
    best = layer.best_epoch - 1
    assert layer.history["train_accuracy"][best] > layer.history["valid_accuracy"][best]
    assert layer.l2 == 0
    losses = fit(train, valid, patience=3 * layer.best_epoch).history["valid_loss"]
    assert losses[-1] > 1.05 * losses.min()
    accuracies = [
        made.history["valid_accuracy"][made.best_epoch - 1]
        for made in (fit(train, valid, seed=seed) for seed in range(3))
    ]
    assert np.ptp(accuracies) <= 2.5 / len(valid.labels)


def test_an_unknown_breed_is_named_as_lesson_5_says(bottlenecks, layer):
    def without(split):
        keep = split.labels != 0
        return replace(split, features=split.features[keep], labels=split.labels[keep])

    unaware = fit(without(bottlenecks["train"]), without(bottlenecks["valid"]))
    test = bottlenecks["test"]
    believed = unaware.probabilities(test.features[test.labels == 0])
    poodles = believed.argmax(axis=1) == layer.breeds.index("010.Poodle")
    assert layer.breeds[0] == "001.Afghan_hound" and poodles.mean() > 0.6


def test_mistakes_are_as_lesson_4_says(result):
    most = confused_pairs(result, most=1)
    assert are_alike(most["breed"][0], most["guess"][0])
    assert most["breed"][0] == "012.Siberian_husky"
    worst = worst_mistakes(result)
    pairs = zip(worst["breed"], worst["guess"], strict=True)
    assert sum(are_alike(*pair) for pair in pairs) > len(worst["breed"]) / 2
    surest_first = np.argsort(-result.probabilities.max(axis=1), kind="stable")
    unsure = ~result.right[surest_first[-PHOTOS // 6 :]]
    assert unsure.sum() >= 0.75 * (~result.right).sum()


def test_refusing_the_unsure_is_as_lesson_4_says(bottlenecks, layer, result):
    valid = bottlenecks["valid"]
    believed = layer.probabilities(valid.features)
    right, sureness = believed.argmax(axis=1) == valid.labels, believed.max(axis=1)
    order = np.argsort(-sureness, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    threshold = sureness[order[np.flatnonzero(shares >= 0.99).max()]]
    answered = result.probabilities.max(axis=1) >= threshold
    assert 0.8 < answered.mean() < 0.97
    assert 0.94 < result.right[answered].mean() < 0.98


def test_the_temperature_is_below_one_as_lesson_4_says(bottlenecks, layer):
    valid = bottlenecks["valid"]
    logits = valid.features @ layer.kernel + layer.bias
    losses = [cross_entropy(logits / t, valid.labels) for t in (0.8, 1, 1.25)]
    assert losses[0] < losses[1] < losses[2]


def test_a_mirrored_dog_stays_near_as_lesson_2_says(choice, bottlenecks):
    test, squares, module = bottlenecks["test"], dogtl.square(choice), describe(choice)
    pixels = np.stack(
        [np.asarray(Image.open(squares.square_of(p))) for p in test.paths]
    )
    mirrored = pixels[:, :, ::-1].astype(np.float32) / 255
    moved = load(module.handle, module.stamp)(mirrored).numpy() - test.features
    breeds = [test.features[test.labels == label] for label in range(12)]
    apart = np.concatenate(
        [
            np.linalg.norm(one[:, None] - one, axis=-1)[np.triu_indices(len(one), 1)]
            for one in breeds
        ]
    )
    assert np.linalg.norm(moved, axis=1).mean() < apart.mean() / 2
