"""The linear layer learns, stops where validation says, and is the same every time."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import files_of, times_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dogtl import linear, modules
from dogtl.bottlenecks import Bottlenecks, extract
from dogtl.linear import (
    HISTORY,
    PATIENCE,
    cross_entropy,
    fit,
    history_table,
    read_layer,
    save_layer,
    softmax,
    train,
)

logits_2d = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6),
)
few = settings(max_examples=80, deadline=None)


# --- the two functions -------------------------------------------------------------


@given(logits_2d)
@few
def test_softmax_gives_probabilities_in_the_order_of_the_scores(logits):
    seen = softmax(logits)
    assert np.isfinite(seen).all() and ((seen >= 0) & (seen <= 1)).all()
    np.testing.assert_allclose(seen.sum(axis=1), 1)
    assert (seen.max(axis=1) == seen[range(len(seen)), logits.argmax(axis=1)]).all()


@given(logits_2d, st.floats(-1e3, 1e3))
@few
def test_softmax_does_not_mind_a_shift(logits, shift):
    logits = logits / 1e3
    np.testing.assert_allclose(softmax(logits + shift), softmax(logits), atol=1e-9)


def test_softmax_of_known_scores():
    np.testing.assert_allclose(softmax(np.log([1.0, 2.0, 5.0])), [1 / 8, 1 / 4, 5 / 8])
    extreme = softmax(np.array([[1e38, -1e38, 0]], np.float32))
    assert extreme.tolist() == [[1, 0, 0]]
    assert softmax(np.zeros((2, 3, 4))).tolist() == [[[0.25] * 4] * 3] * 2


@given(logits_2d, st.data())
@few
def test_cross_entropy_is_the_mean_log_probability(logits, data):
    labels = data.draw(arrays(np.int64, len(logits), elements=st.integers(0, 5)))
    labels %= logits.shape[1]
    loss = cross_entropy(logits, labels)
    assert isinstance(loss, float) and np.isfinite(loss) and loss >= 0
    mild = logits / 1e5
    expected = -np.log(softmax(mild)[range(len(labels)), labels]).mean()
    assert cross_entropy(mild, labels) == pytest.approx(expected, abs=1e-9)


def test_cross_entropy_of_known_scores():
    assert cross_entropy(np.zeros((4, 8)), np.arange(4)) == pytest.approx(np.log(8))
    sure_and_wrong = np.array([[0.0, 1e6]])
    assert cross_entropy(sure_and_wrong, np.array([0])) == pytest.approx(1e6)
    assert cross_entropy(sure_and_wrong, np.array([1])) == 0


# --- one fit -----------------------------------------------------------------------


def made_up(number, seed, noise=0.3, breeds=3, features=5) -> Bottlenecks:
    """Bottlenecks of breeds that lie around a corner each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % breeds
    centres = 2 * np.eye(breeds, features)
    values = centres[labels] + rng.normal(0, noise, (number, features))
    names = [f"breed_{i}" for i in range(breeds)]
    paths = [f"train/{names[label]}/{i}.jpg" for i, label in enumerate(labels)]
    facts = {
        "module": "made/up",
        "size": 32,
        "photos": "made/up",
        "stamps": [str(seed)],
    }
    return Bottlenecks(values.astype(np.float32), labels, names, paths, [], facts)


TRAIN, VALID = made_up(45, 1, noise=1), made_up(24, 2, noise=1)


@pytest.fixture(scope="module")
def layer():
    return fit(TRAIN, VALID)


def equal(one, other) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("kernel", "bias")
    ) and all(np.array_equal(one.history[n], other.history[n]) for n in HISTORY)


def test_what_is_separable_is_learnt():
    learnt, unseen = fit(made_up(60, 3), made_up(30, 4)), made_up(90, 5)
    believed = learnt.probabilities(unseen.features)
    assert believed.shape == (90, 3)
    assert (believed.argmax(axis=1) == unseen.labels).mean() == 1
    assert learnt.history["valid_accuracy"][learnt.best_epoch - 1] == 1


def test_its_shape_and_facts(layer):
    assert layer.kernel.shape == (5, 3) and layer.bias.shape == (3,)
    assert layer.kernel.dtype == layer.bias.dtype == np.float32
    assert layer.breeds == TRAIN.breeds and layer.module == "made/up"
    assert (layer.l2, layer.batch_size) == (0, 32)
    assert str(layer.best_epoch) in str(layer) and "5 x 3" in str(layer)


def test_the_history_covers_every_epoch(layer):
    assert set(layer.history) == set(HISTORY)
    epochs = {len(values) for values in layer.history.values()}
    assert epochs == {min(layer.best_epoch + PATIENCE, linear.MAX_EPOCHS)}
    assert layer.history["train_loss"][0] > layer.history["train_loss"][-1]
    assert layer.history["train_loss"][0] < np.log(3)  # measured at the epoch's end


def test_the_weights_kept_are_those_of_the_lowest_validation_loss(layer):
    best = layer.best_epoch - 1
    assert layer.history["valid_loss"][best] == layer.history["valid_loss"].min()
    for split, data in (("train", TRAIN), ("valid", VALID)):
        logits = data.features @ layer.kernel + layer.bias
        loss = cross_entropy(logits, data.labels)
        share = (logits.argmax(axis=1) == data.labels).mean()
        assert layer.history[f"{split}_loss"][best] == pytest.approx(loss, rel=1e-6)
        assert layer.history[f"{split}_accuracy"][best] == pytest.approx(share)


def test_training_stops_early_when_validation_gets_worse():
    upside_down = replace(VALID, labels=(VALID.labels + 1) % 3)
    stopped = fit(TRAIN, upside_down)
    assert stopped.best_epoch == 1
    assert len(stopped.history["valid_loss"]) == 1 + PATIENCE


def test_the_same_seed_gives_the_same_layer_and_another_does_not(layer):
    assert equal(fit(TRAIN, VALID), layer)
    assert not equal(fit(TRAIN, VALID, seed=1), layer)


def test_nothing_else_random_matters(layer):
    tf = modules.tensorflow()
    np.random.seed(5)
    tf.random.set_seed(5)
    assert equal(fit(TRAIN, VALID), layer)


def test_the_penalty_shrinks_the_kernel(layer):
    sums = [float((layer.kernel**2).sum())]
    sums += [float((fit(TRAIN, VALID, l2=l2).kernel ** 2).sum()) for l2 in (0.01, 1.0)]
    assert sums[0] > sums[1] > 10 * sums[2]


def test_batches_larger_than_the_photos_and_of_one(layer):
    for batch_size in (1000, 1):
        other = fit(TRAIN, VALID, batch_size=batch_size)
        assert other.history["valid_loss"].min() < 0.8 * np.log(3)
        assert other.batch_size == batch_size


def test_it_is_a_dense_layer_of_keras(layer):
    modules.tensorflow()
    import keras

    dense = keras.layers.Dense(3, activation="softmax")
    dense.build((None, 5))
    dense.set_weights([layer.kernel, layer.bias])
    expected = dense(TRAIN.features).numpy()
    np.testing.assert_allclose(layer.probabilities(TRAIN.features), expected, atol=1e-6)


def test_the_history_as_a_table(layer):
    table = history_table(layer)
    assert list(table) == ["epoch", *HISTORY, "kept"]
    assert table["epoch"] == list(range(1, len(layer.history["valid_loss"]) + 1))
    assert [e for e, k in zip(table["epoch"], table["kept"], strict=True) if k] == [
        layer.best_epoch
    ]
    assert table["valid_loss"] == layer.history["valid_loss"].tolist()


# --- stored ------------------------------------------------------------------------


def test_saved_and_read_back(layer, tmp_path):
    for name in ("one", "two"):
        save_layer(layer, tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = read_layer(tmp_path / "one.npz")
    assert equal(back, layer) and str(back) == str(layer)
    for name in ("breeds", "module", "l2", "batch_size", "provenance"):
        assert getattr(back, name) == getattr(layer, name)
    with np.load(tmp_path / "one.npz", allow_pickle=False) as stored:
        assert not any(stored[name].dtype.hasobject for name in stored.files)
        assert {"kernel", "bias", "breeds", "module", "l2"} <= set(stored.files)
    assert not list(tmp_path.glob("*.part"))


def test_what_cannot_be_read_is_none(layer, tmp_path):
    file = tmp_path / "layer.npz"
    assert read_layer(file) is None
    save_layer(replace(layer, provenance={"a": [1]}), file)
    assert read_layer(file, {"a": [1]}) and read_layer(file, {"a": [2]}) is None
    whole = file.read_bytes()
    for spoilt in (b"", b"nonsense", whole[:-80], whole[: len(whole) // 2]):
        file.write_bytes(spoilt)
        assert read_layer(file) is None


# --- the choice by validation ------------------------------------------------------


def test_the_setting_with_the_lowest_validation_loss_is_kept(done):
    stored = extract(done)
    kept = train(done, stored)
    fits = [
        fit(stored["train"], stored["valid"], size, l2, done.seed)
        for size in linear.BATCH_SIZES
        for l2 in linear.L2S
    ]
    best = min(fits, key=lambda layer: layer.history["valid_loss"].min())
    assert equal(kept, best)
    assert (kept.batch_size, kept.l2) == (best.batch_size, best.l2)


def test_nothing_to_do(done, caplog):
    caplog.set_level("INFO")
    before = times_of(done.home)
    assert equal(train(done), train(done))
    assert times_of(done.home) == before
    assert "linear layer: nothing to do" in caplog.text


@pytest.fixture
def one_setting(monkeypatch):
    """One setting instead of six, which saves time."""
    monkeypatch.setattr(linear, "BATCH_SIZES", (32,))
    monkeypatch.setattr(linear, "L2S", (0.0,))


def test_the_test_split_is_not_looked_at(chosen, tmp_path, one_setting):
    splits = {"train": TRAIN, "valid": VALID, "test": made_up(9, 6)}
    other_test = made_up(30, 7, noise=5)
    homes = [tmp_path / name for name in ("one", "two", "three")]
    for home, test in zip(homes, (splits["test"], other_test, None), strict=True):
        train(replace(chosen, home=home), {**splits, "test": test})
    one, two, three = map(files_of, homes)
    assert one == two == three and len(one) == 1


def test_other_bottlenecks_or_another_seed_are_another_layer(chosen, one_setting):
    splits = {"train": TRAIN, "valid": VALID}
    first = train(chosen, splits)
    assert equal(train(chosen, splits), first)
    seeded = train(replace(chosen, seed=1), splits)
    assert not equal(seeded, first)
    assert equal(train(chosen, splits), first)  # they do not overwrite one another
    for split in splits:
        other = {**splits, split: made_up(30, 8, noise=1)}
        assert not equal(train(chosen, other), first)


def test_a_spoilt_layer_is_trained_again(chosen, one_setting):
    splits = {"train": TRAIN, "valid": VALID}
    first = train(chosen, splits)
    (file,) = chosen.home.rglob("seed-0.npz")
    good = file.read_bytes()
    file.write_bytes(good[:300])
    assert equal(train(chosen, splits), first) and file.read_bytes() == good
