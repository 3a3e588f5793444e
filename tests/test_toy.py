"""The toy module knows no breed, and its bottlenecks tell the breeds apart."""

import json
import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dogtl import linear, modules, toy
from dogtl.bottlenecks import extract
from dogtl.choices import Choice
from dogtl.squares import square
from dogtl.toy import pretrain
from dogtl.toy.brush import as_vector
from dogtl.toy.kennel import BREEDS, LOOK_ALIKES

HOME = os.environ.get("DOGTL_HOME")  # read now: no test sees it


@pytest.fixture(scope="module")
def choice(tmp_path_factory):
    """The embedded default, in a home that may have the kennel's photos already."""
    home = HOME or tmp_path_factory.mktemp("home")
    return Choice("kennel", "toy", None, Path(home).absolute())


@pytest.fixture(scope="module")
def facts():
    return json.loads((toy.MODULE / "module.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def network():
    return modules.load(str(toy.MODULE))


def vectors(dogs):
    return np.array([as_vector(dog) for dog in dogs])


def nearest(some, others):
    """The least distance between rows of two tables."""
    squared = (some**2).sum(1)[:, None] + (others**2).sum(1) - 2 * some @ others.T
    return np.sqrt(squared.min())


def test_no_species_is_nearer_to_a_breed_than_two_breeds_that_differ(facts):
    plan = pretrain.Plan(**facts["plan"])
    species = vectors(pretrain.species(plan.seed, plan.species))
    assert len(species) == plan.species
    kinds = {breed: vectors(coats) for breed, coats in BREEDS.items()}
    differing = [pair for pair in combinations(BREEDS, 2) if pair not in LOOK_ALIKES]
    law = min(nearest(kinds[a], kinds[b]) for a, b in differing)
    assert pretrain.law() == pytest.approx(law)
    assert nearest(species, np.concatenate([*kinds.values()])) > law


def test_the_recorded_plan_is_the_one_of_the_code(facts):
    assert pretrain.Plan(**facts["plan"]) == pretrain.Plan()


def test_described_as_recorded(choice, facts, network):
    module = modules.describe(choice)
    assert (module.size, module.features) == (facts["size"], facts["features"])
    body = pretrain.network()
    assert body.count_params() == facts["parameters"]
    assert sum(np.size(v) for v in network.variables) == facts["parameters"]


def test_vectors_are_the_same_each_time_and_never_negative(network, facts):
    images = np.random.default_rng(0).random((5, *[facts["size"]] * 2, 3), np.float32)
    features = network(images).numpy()
    assert features.shape == (5, facts["features"]) and features.dtype == np.float32
    assert features.min() >= 0 and features.std() > 0.01
    for again in (network(images, training=False), network(images)):
        np.testing.assert_array_equal(features, again)
    served = network.signatures["serving_default"](images=images)
    np.testing.assert_array_equal(features, [*served.values()][0])
    np.testing.assert_allclose(network(images[:1]), features[:1], rtol=1e-4, atol=1e-5)


def test_small_and_anonymous():
    files = [file for file in toy.MODULE.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 3_000_000
    for file in files:
        content = file.read_bytes()
        for mark in (b"/work", b"/tmp", b"/home", b"/root", b"site-packages"):
            assert mark not in content


def test_a_tiny_pretraining_makes_a_module(tmp_path):
    folder = tmp_path / "deep" / "tiny"
    options = ["--species=3", "--photos=4", "--epochs=2", "--batch=4", "--width=2"]
    folder.mkdir(parents=True)
    (folder / "old").touch()
    pretrain.main(["--folder", str(folder), *options])
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert not (folder / "old").exists()
    facts = json.loads((folder / "module.json").read_text("utf-8"))
    assert facts["plan"]["species"] == 3 and facts["losses"]["species_loss"] > 0
    module = modules.describe(Choice("kennel", str(folder), None, tmp_path))
    assert (module.size, module.features) == (pretrain.SIZE, 32)


def test_an_export_says_nothing_that_a_notebook_would_store(tmp_path, capfd):
    pretrain.export(pretrain.network(width=2), tmp_path / "module")
    assert capfd.readouterr() == ("", "")


def test_a_square_comes_from_its_stream():
    dog = pretrain.species(5, 1)[0]
    one, other = (pretrain.draw_square((dog, (5, 0, 0))) for _ in range(2))
    assert one[0].shape == (pretrain.SIZE, pretrain.SIZE, 3)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 0 < np.linalg.norm(one[1] - as_vector(dog)) < pretrain.law() / 2


def accuracy(bottlenecks, features=None):
    """On the test photos, of one layer on a module's or on other features."""
    sets = bottlenecks
    if features:
        sets = {k: replace(bottlenecks[k], features=features[k]) for k in bottlenecks}
    layer = linear.fit(sets["train"], sets["valid"], 128, 1e-3)
    guesses = layer.probabilities(sets["test"].features).argmax(1)
    return (guesses == sets["test"].labels).mean()


def test_it_tells_the_breeds_apart_by_what_it_learned(choice):
    squares = square(choice)
    bottlenecks = extract(choice, squares)
    images = {
        split: [Image.open(squares.square_of(path)) for path in paths]
        for split, paths in squares.paths.items()
    }
    raw = {
        split: np.stack([np.ravel(image.resize((32, 32))) for image in some])
        for split, some in images.items()
    }
    raw = {split: (some / 255).astype(np.float32) for split, some in raw.items()}
    untaught = pretrain.network(seed=1)
    random = {
        split: untaught.predict(np.stack(some) / np.float32(255), verbose=0)
        for split, some in images.items()
    }
    reached = accuracy(bottlenecks)
    assert reached >= 0.80
    assert reached >= 0.30 + accuracy(bottlenecks, raw)
    assert reached >= 0.30 + accuracy(bottlenecks, random)
