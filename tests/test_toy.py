"""The toy module knows no breed, and its bottlenecks tell the breeds apart."""

import json
from dataclasses import astuple
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import times_of

import dogtl
from dogtl import toy
from dogtl.frameworks import export_keras
from dogtl.toy import pretrain
from dogtl.toy.brush import as_vector
from dogtl.toy.kennel import BREEDS, LOOK_ALIKES


@pytest.fixture(scope="module")
def facts():
    return json.loads((toy.MODULE / "module.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def network():
    dogtl.import_tensorflow()
    import tensorflow_hub as hub

    return hub.load(str(toy.MODULE))


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
    least = min(nearest(kinds[a], kinds[b]) for a, b in differing)
    assert pretrain.minimum_distance() == pytest.approx(least)
    assert nearest(species, np.concatenate([*kinds.values()])) > least


def test_it_is_as_recorded(kennel, facts):
    assert pretrain.Plan(**facts["plan"]) == pretrain.Plan()
    module = kennel.module
    assert (module.size, module.n_features) == (facts["size"], facts["features"])
    assert module.n_parameters == facts["parameters"]
    assert pretrain.network().count_params() == facts["parameters"]


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
    options = ["--species=3", "--photos=4", "--epochs=1", "--batch=4", "--width=2"]
    folder.mkdir(parents=True)
    (folder / "old").touch()
    pretrain.main(["--folder", str(folder), *options])
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert not (folder / "old").exists()
    facts = json.loads((folder / "module.json").read_text("utf-8"))
    assert facts["plan"]["species"] == 3 and facts["losses"]["species_loss"] > 0
    module = dogtl.load_module(folder)
    assert (module.size, module.n_features) == (pretrain.SIZE, 32)


def test_the_random_module_is_made_once_and_whole(home, capfd, monkeypatch):
    module = dogtl.load_module("toy_random")
    assert capfd.readouterr() == ("", "")  # or notebooks would store it
    assert (module.size, module.n_features) == (112, 256)
    before = times_of(home)
    assert dogtl.load_module("toy_random").fingerprint == module.fingerprint
    assert times_of(home) == before
    assert not list(home.rglob("*.part"))
    emptied = module.folder / "saved_model.pb"
    emptied.write_bytes(b"")
    again = dogtl.load_module("toy_random")
    assert emptied.stat().st_size and astuple(again)[:6] == astuple(module)[:6]


def test_an_export_that_is_cut_off_leaves_nothing(tmp_path, monkeypatch):
    tf, folder = dogtl.import_tensorflow(), tmp_path / "modules" / "cut"

    def half(module, place, *signatures):
        Path(place).mkdir(parents=True)
        Path(place, "saved_model.pb").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", half)
        with pytest.raises(KeyboardInterrupt):
            export_keras(pretrain.network(width=2), folder)
    assert list(folder.parent.iterdir()) == []
    export_keras(pretrain.network(width=2), folder)
    assert dogtl.load_module(folder).n_features == 32


def test_a_square_comes_from_its_stream():
    dog = pretrain.species(5, 1)[0]
    one, other = (pretrain.draw_square((dog, (5, 0, 0))) for _ in range(2))
    assert one[0].shape == (pretrain.SIZE, pretrain.SIZE, 3)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 0 < np.linalg.norm(one[1] - as_vector(dog)) < pretrain.minimum_distance() / 2
