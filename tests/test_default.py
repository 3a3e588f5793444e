"""The embedded default gives what the README says, to within three photos."""

import os

import numpy as np
import pytest

import dogtl
from dogtl.evaluation import confused_pairs

HOME = os.environ.get("DOGTL_HOME")  # the notebooks' home, with all steps done
RIGHT, PHOTOS = 220, 240


@pytest.fixture(scope="module")
def choice(tmp_path_factory):
    """The kennel and the toy module."""
    return dogtl.choose("kennel", "toy", home=HOME or tmp_path_factory.mktemp("home"))


def test_accuracy_on_the_kennel(choice):
    result = dogtl.evaluate(choice)
    assert len(result.labels) == PHOTOS and result.n_left_out == 0
    assert abs(int(result.right.sum()) - RIGHT) <= 3


def test_what_the_lessons_say_of_the_kennel(choice):
    bottlenecks = dogtl.extract(choice)
    layer, result = dogtl.train(choice, bottlenecks), dogtl.evaluate(choice)
    best = layer.best_epoch - 1
    assert layer.history["train_accuracy"][best] > layer.history["valid_accuracy"][best]
    assert all((split.features >= 0).all() for split in bottlenecks.values())
    most = confused_pairs(result, most=1)
    assert {most["breed"][0], most["guess"][0]} == {
        "002.Alaskan_malamute",
        "012.Siberian_husky",
    }
    assert np.isclose(result.top5, 1, atol=0.01)
