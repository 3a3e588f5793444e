"""The linear layer learns, stops where validation says, and is the same every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import files_of
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


@given(logits_2d, st.floats(-1e3, 1e3), st.integers(0, 5))
@few
def test_softmax_gives_probabilities_and_cross_entropy_their_logs(logits, shift, first):
    seen, rows = dogtl.softmax(logits), range(len(logits))
    assert np.isfinite(seen).all() and ((seen >= 0) & (seen <= 1)).all()
    np.testing.assert_allclose(seen.sum(axis=1), 1)
    assert (seen.max(axis=1) == seen[rows, logits.argmax(axis=1)]).all()
    np.testing.assert_allclose(dogtl.softmax(logits + shift), seen, atol=1e-6)
    labels = (first + np.arange(len(logits))) % logits.shape[1]
    loss, mild = dogtl.cross_entropy(logits, labels), logits / 1e5
    assert isinstance(loss, float) and np.isfinite(loss) and loss >= 0
    expected = -np.log(dogtl.softmax(mild)[rows, labels]).mean()
    assert dogtl.cross_entropy(mild, labels) == pytest.approx(expected, abs=1e-9)


def test_both_of_known_scores():
    known = dogtl.softmax(np.log([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(known, [1 / 8, 1 / 4, 5 / 8])
    extreme = dogtl.softmax(np.array([[1e38, -1e38, 0]], np.float32))
    assert extreme.tolist() == [[1, 0, 0]]
    loss = dogtl.cross_entropy(np.zeros((4, 8)), np.arange(4))
    assert loss == pytest.approx(np.log(8))
    confident = np.array([[0.0, 1e6]])
    losses = [dogtl.cross_entropy(confident, np.array([label])) for label in (0, 1)]
    assert losses == pytest.approx([1e6, 0])
    _, gradient, _ = dogtl.loss_and_gradient(
        1e38 * np.eye(3), np.eye(2), np.ones(2, int)
    )
    assert np.isfinite(gradient).all()


# --- the loss and its slopes -------------------------------------------------------


@st.composite
def problems(draw):
    """Weights, features, labels and a penalty, with values of moderate size."""
    photos, features, breeds = (draw(st.integers(1, 6)) for _ in range(3))

    def values(*shape):
        return draw(arrays(np.float64, shape, elements=st.floats(-3, 3)))

    labels = draw(arrays(np.int64, photos, elements=st.integers(0, breeds - 1)))
    weights, inputs = values(features + 1, breeds), values(photos, features)
    return weights, inputs, labels, draw(st.sampled_from([0.0, 0.01, 1.0]))


@given(problems(), st.integers(0, 2**32 - 1))
@few
def test_the_loss_has_a_penalty_and_the_gradient_is_what_small_steps_measure(
    problem, seed
):
    weights, *rest = problem
    features, labels, l2 = rest
    before = weights.copy(), features.copy()
    loss, gradient, logits = dogtl.loss_and_gradient(*problem)
    assert (weights == before[0]).all() and (features == before[1]).all()
    np.testing.assert_array_equal(logits, features @ weights[:-1] + weights[-1])
    penalty = l2 * (weights[:-1] ** 2).sum()  # the bias is free
    assert loss == pytest.approx(dogtl.cross_entropy(logits, labels) + penalty)
    assert isinstance(loss, float) and gradient.shape == weights.shape
    step = 1e-5 * np.random.default_rng(seed).normal(size=weights.shape)
    ahead, behind = (
        dogtl.loss_and_gradient(weights + sign * step, *rest)[0] for sign in (1, -1)
    )
    expected = 2 * np.sum(gradient * step)
    assert ahead - behind == pytest.approx(expected, rel=1e-4, abs=1e-9)


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
    np.random.seed(5)  # nothing in it is random
    assert equal(dogtl.fit(made_up(60, 3), made_up(30, 4)), learned)


def test_the_weights_kept_are_those_of_the_lowest_validation_loss(layer):
    assert layer.kernel.shape == (5, 3) and layer.bias.shape == (3,)
    assert layer.kernel.dtype == layer.bias.dtype == np.float32
    assert layer.breeds == TRAIN.breeds and layer.module == TRAIN.module
    best, history = layer.best_epoch - 1, layer.history
    assert str(layer.best_epoch) in repr(layer) and "5 x 3" in repr(layer)
    assert history["valid_loss"][best] == history["valid_loss"].min()
    assert len({len(history[name]) for name in HISTORY}) == 1
    assert len(history["valid_loss"]) <= best + 1 + PATIENCE
    for split, data in SPLITS.items():
        logits = data.features @ layer.kernel + layer.bias
        assert (layer.probabilities(data.features) == dogtl.softmax(logits)).all()
        loss = dogtl.cross_entropy(logits, data.labels)
        share = (logits.argmax(axis=1) == data.labels).mean()
        assert history[f"{split}_loss"][best] == pytest.approx(loss, rel=1e-6)
        assert history[f"{split}_accuracy"][best] == pytest.approx(share)


UPSIDE_DOWN = replace(VALID, labels=(VALID.labels + 1) % 3)


def test_training_stops_early_when_validation_gets_worse():
    """More patience goes further along the same way, and keeps the same epoch."""
    layers = {n: dogtl.fit(TRAIN, UPSIDE_DOWN, patience=n) for n in (1, 2, 6)}
    for patience, stopped in layers.items():
        assert stopped.best_epoch == 1
        assert len(stopped.history["valid_loss"]) == 1 + patience
        assert (stopped.kernel == layers[6].kernel).all()
        for name in HISTORY:
            seen = stopped.history[name]
            assert (layers[6].history[name][: len(seen)] == seen).all()


def test_training_that_ends_at_the_limit_of_epochs_says_so(monkeypatch, caplog):
    early = dogtl.fit(TRAIN, UPSIDE_DOWN)
    assert early.stopped_early and "limit" not in repr(early)
    monkeypatch.setattr(linear, "MAX_EPOCHS", 3)
    late = dogtl.fit(TRAIN, VALID)
    assert not late.stopped_early and "limit of epochs" in repr(late)
    dogtl.train(SPLITS)
    assert caplog.text.count("longer may help") == 1  # of all layers, the one kept


def test_at_the_end_of_the_way_the_slopes_are_zero():
    """Breeds that overlap make the loss a valley with a lowest point."""
    data = made_up(300, 9, noise=1.5)
    layer = dogtl.fit(data, data, patience=1000)
    weights = np.vstack([layer.kernel, layer.bias]).astype(float)
    _, gradient, _ = dogtl.loss_and_gradient(weights, data.features, data.labels)
    assert layer.stopped_early and np.abs(gradient).max() < 1e-4


@pytest.mark.parametrize("factor", [1e-30, 0.001, 1000, 1e12])
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


@pytest.mark.parametrize(
    ("factor", "offset"), [(0, 0), (0, 7.5), (0, 1e6), (1e-40, 0), (1, 1e9)]
)
def test_features_that_are_all_equal_teach_nothing_which_is_said(
    factor, offset, caplog
):
    """Tiny differences, or those of huge numbers, are lost to 32-bit arithmetic."""

    def change(data):
        features = data.features * np.float32(factor) + offset
        return replace(data, features=features.astype(np.float32))

    nothing = {name: change(data) for name, data in SPLITS.items()}
    for _ in range(2):  # the stored layer says it again
        caplog.clear()
        layer = dogtl.train(nothing)
        assert "all bottlenecks of train are equal" in caplog.text
    assert not layer.kernel.any() and layer.best_epoch == 1
    evaluation = dogtl.evaluate(layer, nothing["valid"])
    np.testing.assert_allclose(evaluation.probabilities, 1 / 3, atol=1e-6)


def test_a_feature_that_never_varied_in_training_decides_little(layer):
    """Were it divided by its spread, nearly zero, one photo's 0.1 would be huge."""

    def with_one_more(data, value):
        column = np.full((len(data.labels), 1), value, np.float32)
        return replace(data, features=np.hstack([data.features, column]))

    other = dogtl.fit(with_one_more(TRAIN, 1.0), with_one_more(VALID, 1.1))
    np.testing.assert_allclose(other.kernel[:-1], layer.kernel, atol=0.05)
    assert np.abs(other.kernel[-1]).max() < 0.01


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e30, 3e38])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_feature_that_is_no_number_to_use_is_refused_by_name(value, split):
    features = SPLITS[split].features.copy()
    features[4, 2] = value
    broken = SPLITS | {split: replace(SPLITS[split], features=features)}
    with pytest.raises(dogtl.DogtlError) as caught:
        dogtl.train(broken)
    text = str(caught.value)
    assert str(TRAIN.paths[4]) in text and "made/up" in text and "\n" not in text


def test_features_of_far_larger_scale_than_train_s_are_refused():
    tiny = replace(TRAIN, features=TRAIN.features * np.float32(1e-30))
    huge = replace(VALID, features=VALID.features * np.float32(1e9))
    with pytest.raises(dogtl.DogtlError, match="larger bottlenecks for valid"):
        dogtl.fit(tiny, huge)
    layer = dogtl.fit(tiny, replace(VALID, features=VALID.features * np.float32(1e-30)))
    huge = replace(huge, features=VALID.features * np.float32(1e12))
    with pytest.raises(dogtl.DogtlError, match="than those it was trained on"):
        dogtl.evaluate(layer, huge)


def test_the_penalty_shrinks_the_kernel():
    layers = [dogtl.fit(TRAIN, TRAIN, l2, patience=1000) for l2 in (0, 0.01, 0.1, 1)]
    sums = [float((layer.kernel**2).sum()) for layer in layers]
    assert sums == sorted(sums, reverse=True) and sums[1] > 10 * sums[3]


def test_the_history_as_a_table(layer):
    table = dogtl.history_table(layer)
    assert list(table) == ["epoch", *HISTORY, "best"]
    assert table["epoch"] == list(range(1, len(layer.history["valid_loss"]) + 1))
    assert np.flatnonzero(table["best"]).tolist() == [layer.best_epoch - 1]
    assert table["valid_loss"] == layer.history["valid_loss"].tolist()


# --- stored ------------------------------------------------------------------------


def test_saved_and_read_back(layer, tmp_path):
    save_layer(layer, tmp_path / "a.npz")
    back = read_layer(tmp_path / "a.npz")
    assert equal(back, layer) and repr(back) == repr(layer)
    for name in ("breeds", "module", "l2", "best_epoch", "stopped_early"):
        assert getattr(back, name) == getattr(layer, name)
    assert read_layer(tmp_path / "none.npz") is None


def damaged(layer):
    """Fields of a stored layer that make it none."""
    history = {name: layer.history[name][:0] for name in HISTORY}
    yield from ({"more": 1}, {"l2": "0"}, {"module": "made/up"}, history)
    yield from ({name: "x"} for name in ("kernel", "bias", "breeds", *HISTORY))
    yield from ({"kernel": layer.kernel.T}, {"kernel": layer.kernel.astype(float)})
    yield from ({"bias": layer.bias[:2]}, {"bias": layer.bias.astype(int)})
    yield from ({"breeds": [*"ab"]}, {"breeds": np.arange(3)})
    yield {"valid_loss": layer.history["valid_loss"][1:]}


def test_a_damaged_stored_layer_is_trained_again(home):
    layer = dogtl.train(SPLITS)
    (file,) = home.rglob("*.npz")
    good, fields = file.read_bytes(), dogtl.store.load_arrays(file)
    broken = [fields | change for change in damaged(layer)]
    for gone in fields:
        broken.append({name: fields[name] for name in fields.keys() - {gone}})
    for some in broken:
        dogtl.store.save_arrays(file, some)
        assert read_layer(file) is None, some
    for _ in range(2):
        assert equal(dogtl.train(SPLITS), layer) and file.read_bytes() == good
        dogtl.store.save_arrays(file, fields | {"kernel": layer.kernel[:-1]})


# --- the choice by validation ------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "kept", "tried"),
    [
        ([5, 4, 3, 2, 1, 0.9, 0.8, 0.7], 7, 8),
        ([1, 0.9, 0.95, 1.2, 0.1, 0.1, 0.1], 1, 4),  # much worse than the lowest: stop
        ([1, 1.05, 1.09, 0.99, 1, 1, 1, 1], 3, 8),  # a little worse: go on
        ([1, 1.01, 1.02, 1.008, 1.03, 1.2], 3, 6),  # as good, and stronger: that one
    ],
)
def test_the_strongest_penalty_that_does_as_well_is_kept(
    layer, monkeypatch, losses, kept, tried
):
    asked = []

    def fit(train, valid, l2):
        asked.append(l2)
        loss = np.array([losses[len(asked) - 1]])
        return replace(layer, l2=l2, history=dict.fromkeys(HISTORY, loss))

    monkeypatch.setattr(linear, "fit", fit)
    assert dogtl.train(SPLITS).l2 == linear.L2_PENALTIES[kept]
    assert asked == list(linear.L2_PENALTIES[:tried])


def test_the_test_split_is_not_looked_at(tmp_path):
    tests = [made_up(9, 6), made_up(30, 7, noise=5), None]
    homes = [tmp_path / name for name in ("one", "two", "three")]
    for home, test in zip(homes, tests, strict=True):
        dogtl.train({**SPLITS, "test": test}, home=home)
    one, two, three = map(files_of, homes)
    assert one == two == three and len(one) == 1


def test_an_experiment_never_passes_for_the_genuine_layer():
    """Other labels, features, breeds or modules are another layer."""
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
    names, doubles = TRAIN.breeds[::-1], TRAIN.features.astype(float)
    renamed = SPLITS | {"train": replace(TRAIN, breeds=names, module=module)}
    for _ in range(2):
        assert dogtl.train(renamed).breeds == names
        assert dogtl.train(renamed).module == module
    layer = dogtl.train(SPLITS | {"train": replace(TRAIN, features=doubles)})
    np.testing.assert_allclose(layer.kernel, first.kernel, atol=1e-3)
    assert equal(dogtl.train(SPLITS), first)
    assert dogtl.train(SPLITS).breeds == TRAIN.breeds
