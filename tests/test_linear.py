"""The linear layer learns, stops where validation says, and is the same every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import files_of, times_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import dogtl
from dogtl import linear
from dogtl.linear import HISTORY, PATIENCE, read_layer, save_layer

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
    seen = dogtl.softmax(logits)
    assert np.isfinite(seen).all() and ((seen >= 0) & (seen <= 1)).all()
    np.testing.assert_allclose(seen.sum(axis=1), 1)
    assert (seen.max(axis=1) == seen[range(len(seen)), logits.argmax(axis=1)]).all()


@given(logits_2d, st.floats(-1e3, 1e3))
@few
def test_softmax_ignores_a_shift(logits, shift):
    logits = logits / 1e3
    shifted = dogtl.softmax(logits + shift)
    np.testing.assert_allclose(shifted, dogtl.softmax(logits), atol=1e-9)


def test_softmax_of_known_scores():
    known = dogtl.softmax(np.log([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(known, [1 / 8, 1 / 4, 5 / 8])
    extreme = dogtl.softmax(np.array([[1e38, -1e38, 0]], np.float32))
    assert extreme.tolist() == [[1, 0, 0]]


@given(logits_2d, st.data())
@few
def test_cross_entropy_is_the_mean_log_probability(logits, data):
    labels = data.draw(arrays(np.int64, len(logits), elements=st.integers(0, 5)))
    labels %= logits.shape[1]
    loss = dogtl.cross_entropy(logits, labels)
    assert isinstance(loss, float) and np.isfinite(loss) and loss >= 0
    mild = logits / 1e5
    expected = -np.log(dogtl.softmax(mild)[range(len(labels)), labels]).mean()
    assert dogtl.cross_entropy(mild, labels) == pytest.approx(expected, abs=1e-9)


def test_cross_entropy_of_known_scores():
    assert dogtl.cross_entropy(np.zeros((4, 8)), np.arange(4)) == pytest.approx(
        np.log(8)
    )
    confident = np.array([[0.0, 1e6]])
    assert dogtl.cross_entropy(confident, np.array([0])) == pytest.approx(1e6)
    assert dogtl.cross_entropy(confident, np.array([1])) == 0


# --- one fit -----------------------------------------------------------------------


def made_up(number, seed, noise=0.3, breeds=3, features=5) -> dogtl.Bottlenecks:
    """Bottlenecks of breeds that lie around a corner each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % breeds
    centres = 2 * np.eye(breeds, features)
    values = centres[labels] + rng.normal(0, noise, (number, features))
    names = [f"breed_{i}" for i in range(breeds)]
    paths = [Path(f"train/{names[label]}/{i}.jpg") for i, label in enumerate(labels)]
    module = {"name": "made/up", "fingerprint": "0"}
    features = values.astype(np.float32)
    return dogtl.Bottlenecks(features, labels, names, paths, {}, module)


TRAIN, VALID = made_up(45, 1, noise=1), made_up(24, 2, noise=1)
SPLITS = {"train": TRAIN, "valid": VALID}


@pytest.fixture(scope="module")
def layer():
    return dogtl.fit(TRAIN, VALID)


def equal(one, other) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("kernel", "bias")
    ) and all(np.array_equal(one.history[n], other.history[n]) for n in HISTORY)


def test_what_is_separable_is_learned():
    learned, unseen = dogtl.fit(made_up(60, 3), made_up(30, 4)), made_up(90, 5)
    probabilities = learned.probabilities(unseen.features)
    assert probabilities.shape == (90, 3)
    assert (probabilities.argmax(axis=1) == unseen.labels).all()
    assert learned.history["valid_accuracy"][learned.best_epoch - 1] == 1


def test_its_shape_and_facts(layer):
    assert layer.kernel.shape == (5, 3) and layer.bias.shape == (3,)
    assert layer.kernel.dtype == layer.bias.dtype == np.float32
    assert layer.breeds == TRAIN.breeds and layer.module == TRAIN.module
    assert (layer.l2, layer.batch_size) == (0, 32)
    assert str(layer.best_epoch) in repr(layer) and "5 x 3" in repr(layer)


def test_the_weights_kept_are_those_of_the_lowest_validation_loss(layer):
    best, history = layer.best_epoch - 1, layer.history
    assert history["valid_loss"][best] == history["valid_loss"].min()
    assert len(history["valid_loss"]) == min(best + 1 + PATIENCE, linear.MAX_EPOCHS)
    for split, data in SPLITS.items():
        logits = layer.logits(data.features)
        loss = dogtl.cross_entropy(logits, data.labels)
        share = (logits.argmax(axis=1) == data.labels).mean()
        assert history[f"{split}_loss"][best] == pytest.approx(loss, rel=1e-6)
        assert history[f"{split}_accuracy"][best] == pytest.approx(share)


def test_training_stops_early_when_validation_gets_worse():
    upside_down = replace(VALID, labels=(VALID.labels + 1) % 3)
    stopped = dogtl.fit(TRAIN, upside_down)
    assert stopped.best_epoch == 1
    assert len(stopped.history["valid_loss"]) == 1 + PATIENCE


def test_training_that_ends_at_the_limit_of_epochs_says_so(monkeypatch, caplog):
    early = dogtl.fit(TRAIN, replace(VALID, labels=(VALID.labels + 1) % 3))
    assert early.stopped_early and "limit" not in repr(early)
    monkeypatch.setattr(linear, "MAX_EPOCHS", 5)
    assert "5 epochs (stopped at the limit of epochs)" in repr(dogtl.fit(TRAIN, VALID))
    dogtl.train(SPLITS)
    assert caplog.text.count("still falling") == 1  # of six layers, the one kept


def test_the_same_seed_gives_the_same_layer_and_another_does_not(layer):
    dogtl.import_tensorflow().random.set_seed(5)  # which matters to nothing
    assert equal(dogtl.fit(TRAIN, VALID), layer)
    assert not equal(dogtl.fit(TRAIN, VALID, seed=1), layer)


@pytest.mark.parametrize("factor", [0.001, 1000])
def test_the_scale_of_the_features_does_not_matter(kennel, factor):
    def scaled(split):
        made = kennel.bottlenecks[split]
        return replace(made, features=made.features * np.float32(factor))

    layer = dogtl.fit(scaled("train"), scaled("valid"))
    plain = dogtl.fit(kennel.bottlenecks["train"], kennel.bottlenecks["valid"])
    correct = [
        dogtl.evaluate(*pair).correct.sum()
        for pair in ((layer, scaled("test")), (plain, kennel.bottlenecks["test"]))
    ]
    assert abs(int(correct[0]) - int(correct[1])) <= 1


def test_features_that_are_all_zero_teach_nothing_and_break_nothing():
    nothing = {k: replace(v, features=0 * v.features) for k, v in SPLITS.items()}
    layer = dogtl.fit(nothing["train"], nothing["valid"])
    assert np.isfinite(layer.kernel).all()
    chance = layer.probabilities(nothing["valid"].features)
    np.testing.assert_allclose(chance, 1 / 3, atol=0.02)


def test_features_of_another_kind_are_taken(layer):
    doubles = {
        k: replace(v, features=v.features.astype(float)) for k, v in SPLITS.items()
    }
    np.testing.assert_allclose(dogtl.fit(**doubles).kernel, layer.kernel, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_feature_that_is_not_finite_is_refused_by_name(value, split):
    features = SPLITS[split].features.copy()
    features[4, 2] = value
    broken = SPLITS | {split: replace(SPLITS[split], features=features)}
    with pytest.raises(dogtl.DogtlError) as caught:
        dogtl.train(broken)
    text = str(caught.value)
    assert str(TRAIN.paths[4]) in text and "made/up" in text and "\n" not in text


def test_the_penalty_shrinks_the_kernel(layer):
    sums = [float((layer.kernel**2).sum())]
    for l2 in (0.01, 1.0):
        sums.append(float((dogtl.fit(TRAIN, VALID, l2=l2).kernel ** 2).sum()))
    assert sums[0] > sums[1] > 10 * sums[2]


def test_batches_larger_than_the_photos_and_of_one():
    for batch_size in (1000, 1):
        other = dogtl.fit(TRAIN, VALID, batch_size=batch_size)
        assert other.history["valid_loss"].min() < 0.8 * np.log(3)
        assert other.batch_size == batch_size


def test_it_is_a_dense_layer_of_keras(layer):
    dogtl.import_tensorflow()
    import keras

    dense = keras.layers.Dense(3, activation="softmax")
    dense.build((None, 5))
    dense.set_weights([layer.kernel, layer.bias])
    expected = dense(TRAIN.features).numpy()
    np.testing.assert_allclose(layer.probabilities(TRAIN.features), expected, atol=1e-6)


def test_the_history_as_a_table(layer):
    table = dogtl.history_table(layer)
    assert list(table) == ["epoch", *HISTORY, "best"]
    assert table["epoch"] == list(range(1, len(layer.history["valid_loss"]) + 1))
    assert np.flatnonzero(table["best"]).tolist() == [layer.best_epoch - 1]
    assert table["valid_loss"] == layer.history["valid_loss"].tolist()


# --- stored ------------------------------------------------------------------------


def test_saved_and_read_back(layer, tmp_path):
    for name in ("one", "two"):
        save_layer(layer, tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = read_layer(tmp_path / "one.npz")
    assert equal(back, layer) and repr(back) == repr(layer)
    for name in ("breeds", "module", "l2", "batch_size"):
        assert getattr(back, name) == getattr(layer, name)
    with np.load(tmp_path / "one.npz", allow_pickle=False) as stored:
        assert not any(stored[name].dtype.hasobject for name in stored.files)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_layer_is_none(layer, tmp_path):
    file = tmp_path / "layer.npz"
    assert read_layer(file) is None
    save_layer(layer, file)
    whole = file.read_bytes()
    for damaged in (b"", b"nonsense", whole[:-80], whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        assert read_layer(file) is None
    np.savez(file, kernel=layer.kernel)  # of something else
    assert read_layer(file) is None


# --- the choice by validation ------------------------------------------------------


def test_the_setting_with_the_lowest_validation_loss_is_kept(done):
    train, valid = done.bottlenecks["train"], done.bottlenecks["valid"]
    fits = [
        dogtl.fit(train, valid, batch_size, l2)
        for batch_size in linear.BATCH_SIZES
        for l2 in linear.L2S
    ]
    best = min(fits, key=lambda layer: layer.history["valid_loss"].min())
    assert equal(done.layer, best)
    assert (done.layer.batch_size, done.layer.l2) == (best.batch_size, best.l2)


def test_nothing_to_do(done, caplog):
    caplog.set_level("INFO")
    before = times_of(done.home)
    assert equal(dogtl.train(done.bottlenecks, home=done.home), done.layer)
    assert times_of(done.home) == before
    assert "linear layer: nothing to do" in caplog.text


@pytest.fixture
def one_setting(monkeypatch):
    """One setting instead of six, which saves time."""
    monkeypatch.setattr(linear, "BATCH_SIZES", (32,))
    monkeypatch.setattr(linear, "L2S", (0.0,))


def test_the_test_split_is_not_looked_at(tmp_path, one_setting):
    tests = [made_up(9, 6), made_up(30, 7, noise=5), None]
    homes = [tmp_path / name for name in ("one", "two", "three")]
    for home, test in zip(homes, tests, strict=True):
        dogtl.train({**SPLITS, "test": test}, home=home)
    one, two, three = map(files_of, homes)
    assert one == two == three and len(one) == 1


def test_an_experiment_never_passes_for_the_genuine_layer(one_setting):
    """Other labels, features, breeds, modules or seeds are another layer."""
    first = dogtl.train(SPLITS)
    module = {"name": "other", "fingerprint": "1"}
    experiments = [
        SPLITS | {"train": replace(TRAIN, labels=TRAIN.labels[::-1].copy())},
        SPLITS | {"valid": replace(VALID, labels=VALID.labels[::-1].copy())},
        SPLITS | {"train": made_up(45, 8, noise=1)},
        {k: replace(v, features=v.features[:, :3]) for k, v in SPLITS.items()},
    ]
    for experiment in experiments:
        other = dogtl.train(experiment)
        assert not equal(other, first)
        assert len(other.kernel) == experiment["train"].features.shape[1]
    assert not equal(dogtl.train(SPLITS, seed=1), first)
    renamed = {
        k: replace(v, breeds=list("abc"), module=module) for k, v in SPLITS.items()
    }
    assert dogtl.train(renamed).breeds == list("abc")
    assert dogtl.train(renamed).module == module
    assert equal(dogtl.train(SPLITS), first)
    assert dogtl.train(SPLITS).breeds == TRAIN.breeds


def test_a_damaged_stored_layer_is_trained_again(home, one_setting):
    first = dogtl.train(SPLITS)
    (file,) = home.rglob("*.npz")
    good = file.read_bytes()
    file.write_bytes(good[:300])
    assert equal(dogtl.train(SPLITS), first) and file.read_bytes() == good
