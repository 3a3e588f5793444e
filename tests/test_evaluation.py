"""How good the layer is, in numbers that can be checked by hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Means, all_steps
from PIL import Image

import dogtl
from dogtl import wilson_interval

# --- the interval and the test -----------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [  # Newcombe, 1998, Statistics in Medicine 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5.1e-5)
    mirrored = wilson_interval(n - correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5.1e-5)


def test_wilson_stays_within_0_and_1():
    for n in range(1, 1000):
        assert wilson_interval(0, n)[0] >= 0 and wilson_interval(n, n)[1] <= 1


@pytest.mark.parametrize(
    ("only_one", "only_other", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
        (10, 25, 0.0167),  # scipy.stats.binomtest(10, 35).pvalue
    ],
)
@pytest.mark.parametrize(("both", "neither"), [(0, 0), (50, 7)])
def test_mcnemar_by_hand(only_one, only_other, p, both, neither):
    """Ties don't count, and it doesn't matter which layer comes first."""
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    rows = np.repeat(kinds, [both, only_one, only_other, neither], axis=0)
    pair = rows[:, 0], rows[:, 1]
    found = dogtl.mcnemar_test(*pair)
    assert found == pytest.approx(p, abs=1e-4) == dogtl.mcnemar_test(*pair[::-1])


# --- an evaluation made up ---------------------------------------------------------


def made_up(labels, predictions, breeds, confidence=0.9) -> dogtl.Evaluation:
    """An evaluation in which each photo gets a prediction, with its confidence."""
    labels = np.array(labels, int)
    confidence = np.broadcast_to(confidence, len(labels))
    rest = (1 - confidence) / (breeds - 1)
    probabilities = np.repeat(rest[:, None], breeds, axis=1)
    probabilities[np.arange(len(labels)), predictions] = confidence
    names = [f"{i:03}.Breed_{i}" for i in range(breeds)]
    paths = [Path(f"test/{names[label]}/{i}.jpg") for i, label in enumerate(labels)]
    return dogtl.Evaluation(probabilities.astype(np.float32), labels, names, paths)


# breed 3 has no test photo; 0 is taken for 1 twice and for 2 once, 2 for 0 and for 3
SOME = made_up(
    [0, 0, 0, 0, 1, 1, 2, 2, 2, 4],
    [1, 1, 2, 0, 1, 1, 0, 3, 2, 4],
    5,
    [0.6, 0.9, 0.7, 0.8, 0.9, 0.9, 0.95, 0.9, 0.5, 0.4],
)
PERFECT = made_up([0, 0, 1], [0, 0, 1], 2)


def test_accuracy_and_interval():
    assert SOME.accuracy == 0.5 and SOME.interval == wilson_interval(5, 10)
    assert PERFECT.accuracy == 1 and PERFECT.interval == wilson_interval(3, 3)
    assert made_up([0, 1], [1, 0], 2).accuracy == 0
    assert SOME.predictions.tolist() == [1, 1, 2, 0, 1, 1, 0, 3, 2, 4]
    assert SOME.confidences[6] == pytest.approx(0.95)
    assert repr(SOME).startswith("accuracy 0.500 [0.2")


def test_top5():
    assert PERFECT.top5 is None and made_up([0], [0], 5).top5 is None
    probabilities = np.array([[0.3, 0.2, 0.15, 0.1, 0.1, 0.09, 0.06]] * 7)
    names = list("abcdefg")
    seven = dogtl.Evaluation(probabilities, np.arange(7), names, names)
    assert seven.top5 == pytest.approx(5 / 7) and seven.accuracy == pytest.approx(1 / 7)


def test_confusion_has_breeds_in_rows_and_predictions_in_columns():
    assert SOME.confusion.tolist() == [
        [1, 2, 1, 0, 0],
        [0, 2, 0, 0, 0],
        [1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
    table = dogtl.confusion_table(SOME)
    rows = list(zip(*table.values(), strict=True))
    assert rows[1] == ("000.Breed_0", "001.Breed_1", 2)
    assert rows[10] == ("002.Breed_2", "000.Breed_0", 1) and len(rows) == 25


def test_per_breed_leaves_out_breeds_without_a_photo():
    table = dogtl.per_breed(SOME)
    assert table["breed"] == [f"{i:03}.Breed_{i}" for i in (0, 1, 2, 4)]
    assert table["photos"] == [4, 2, 3, 1] and table["correct"] == [1, 2, 1, 1]
    assert table["accuracy"] == pytest.approx([0.25, 1, 1 / 3, 1])
    columns = (table[name] for name in ("correct", "photos", "low", "high"))
    for correct, n, *interval in zip(*columns, strict=True):
        assert tuple(interval) == wilson_interval(correct, n)


def test_the_most_frequent_mistakes():
    pairs = dogtl.confused_pairs(SOME)
    assert pairs["breed"] == [f"00{i}.Breed_{i}" for i in (0, 0, 2, 2)]
    assert pairs["prediction"] == [f"00{i}.Breed_{i}" for i in (1, 2, 0, 3)]
    assert pairs["photos"] == [2, 1, 1, 1] and pairs["left_out"] == [0] * 4
    some = dogtl.confused_pairs(SOME, top=3)
    assert some["photos"] == [2, 1, 1] and some["left_out"] == [1, 1, 1]


def test_the_most_confident_errors():
    table, rows = dogtl.most_confident_errors(SOME), [6, 1, 7, 2, 0]
    assert table["row"] == rows
    assert table["photo"] == [SOME.paths[row] for row in rows]
    assert table["breed"] == [f"00{i}.Breed_{i}" for i in (2, 0, 2, 0, 0)]
    assert table["prediction"] == [f"00{i}.Breed_{i}" for i in (0, 1, 3, 2, 1)]
    assert table["confidence"] == pytest.approx([0.95, 0.9, 0.9, 0.7, 0.6])
    assert dogtl.most_confident_errors(SOME, top=3)["row"] == rows[:3]


def test_tables_hold_plain_values_that_json_takes():
    for make in (dogtl.confusion_table, dogtl.per_breed, dogtl.confused_pairs):
        assert json.loads(json.dumps(make(SOME))) == make(SOME)
    for make in (dogtl.confused_pairs, dogtl.most_confident_errors):
        assert not any(make(PERFECT).values()) and "breed" in make(PERFECT)


# --- of a finished home ------------------------------------------------------------


def test_breeds_without_test_photos(mine, grid):
    shutil.rmtree(mine / "test" / "001.Red_setter")
    shutil.rmtree(mine / "valid" / "002.Grass_hound")
    for file in (mine / "test" / "002.Grass_hound").iterdir():
        file.unlink()
    evaluation = all_steps(mine, grid).evaluation
    assert len(evaluation.breeds) == 3 and set(evaluation.labels) == {2}
    assert evaluation.probabilities.shape == (4, 3)
    assert dogtl.per_breed(evaluation)["breed"] == ["003.Striped_pointer"]


@pytest.mark.parametrize("breeds", [2, 1000])
def test_one_photo_of_each_breed(tmp_path, monkeypatch, breeds):
    rng, names = np.random.default_rng(0), [f"{i:04}.Breed" for i in range(breeds)]
    monkeypatch.setattr(dogtl.linear, "MAX_EPOCHS", 3)
    for split, number in {"train": breeds, "valid": 2, "test": 2}.items():
        for name in names[:number]:
            folder = tmp_path / "dogs" / split / name
            folder.mkdir(parents=True)
            noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(folder / "only.png")
    squares = dogtl.square(dogtl.load_photos(tmp_path / "dogs"), 8)
    bottlenecks = dogtl.extract(squares, Means(8))
    layer = dogtl.train(bottlenecks)
    evaluation = dogtl.evaluate(layer, bottlenecks["test"])
    other = replace(bottlenecks["test"], breeds=names[::-1])
    with pytest.raises(dogtl.DogtlError, match="other breeds"):
        dogtl.evaluate(layer, other)
    assert layer.kernel.shape == (48, breeds)
    np.testing.assert_allclose(evaluation.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert dogtl.per_breed(evaluation)["breed"] == names[:2]
