"""How good the layer is, in numbers that can be checked by hand, and its guesses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dogtl.choices import Choice
from dogtl.evaluation import (
    Evaluation,
    confused_pairs,
    confusion_table,
    evaluate,
    per_breed,
    predict,
    summary,
    wilson,
    worst_mistakes,
)
from dogtl.linear import train
from dogtl.modules import load

few = settings(max_examples=100, deadline=None)

# --- the interval ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe, 1998, Statistics in Medicine 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=5.1e-5)


@given(st.integers(1, 5000), st.floats(0, 1))
@few
def test_wilson_solves_the_score_equation(n, share):
    right, z = round(n * share), 1.959963984540054
    p = right / n
    roots = np.roots([1 + z * z / n, -(2 * p + z * z / n), p * p]).real
    low, high = wilson(right, n)
    assert (low, high) == pytest.approx(sorted(roots), abs=1e-6)
    assert 0 <= low <= p + 1e-12 and p - 1e-12 <= high <= 1
    assert wilson(n - right, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_at_the_ends():
    for n in (1, 7, 10_000):
        assert wilson(0, n)[0] == pytest.approx(0, abs=1e-15)
        assert wilson(n, n)[1] == pytest.approx(1, abs=1e-15)
        assert 0 < wilson(0, n)[1] < 1 and 0 < wilson(n, n)[0] < 1


# --- an evaluation made up ---------------------------------------------------------


def made_up(labels, guesses, breeds, sureness=0.9) -> Evaluation:
    """An evaluation in which each photo gets a guess, and how sure it is."""
    labels, sureness = np.array(labels, int), np.broadcast_to(sureness, len(labels))
    rest = (1 - sureness) / (breeds - 1)
    believed = np.repeat(rest[:, None], breeds, axis=1)
    believed[np.arange(len(labels)), guesses] = sureness
    names = [f"{i:03}.Breed_{i}" for i in range(breeds)]
    paths = [f"test/{names[label]}/{i}.jpg" for i, label in enumerate(labels)]
    return Evaluation(believed.astype(np.float32), labels, names, paths, 2)


# breed 3 has no test photo; 0 is taken for 1 twice and for 2 once, 2 for 0 and for 3
SOME = made_up(
    [0, 0, 0, 0, 1, 1, 2, 2, 2, 4],
    [1, 1, 2, 0, 1, 1, 0, 3, 2, 4],
    5,
    [0.6, 0.9, 0.7, 0.8, 0.9, 0.9, 0.95, 0.9, 0.5, 0.4],
)
PERFECT = made_up([0, 0, 1], [0, 0, 1], 2)


def test_accuracy_and_interval():
    assert SOME.accuracy == 0.5 and SOME.interval == wilson(5, 10)
    assert PERFECT.accuracy == 1 and PERFECT.interval == wilson(3, 3)
    assert made_up([0, 1], [1, 0], 2).accuracy == 0
    assert SOME.guesses.tolist() == [1, 1, 2, 0, 1, 1, 0, 3, 2, 4]
    assert str(SOME).startswith("accuracy 0.500 [0.2")


def test_top5():
    assert PERFECT.top5 is None and made_up([0], [0], 4).top5 is None
    assert SOME.top5 == 1  # of five breeds, all are among the first five
    believed = np.array([[0.3, 0.2, 0.15, 0.1, 0.1, 0.09, 0.06]] * 7)
    names = list("abcdefg")
    seven = Evaluation(believed, np.arange(7), names, names, 0)
    assert seven.top5 == pytest.approx(5 / 7) and seven.accuracy == pytest.approx(1 / 7)


@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
@few
def test_the_laws_of_the_tables(breeds, n, seed):
    rng = np.random.default_rng(seed)
    labels, guesses = rng.integers(0, breeds, (2, n))
    some = made_up(labels, guesses, breeds, rng.uniform(0.95, 1, n))
    confusion = some.confusion
    assert confusion.shape == (breeds, breeds) and confusion.sum() == n
    assert (confusion.sum(axis=1) == np.bincount(labels, minlength=breeds)).all()
    assert (confusion.sum(axis=0) == np.bincount(guesses, minlength=breeds)).all()
    assert np.trace(confusion) == some.right.sum() == round(some.accuracy * n)
    table = per_breed(some)
    assert sum(table["photos"]) == n and sum(table["right"]) == some.right.sum()
    assert table["breed"] == [some.breeds[label] for label in sorted(set(labels))]
    pairs = confused_pairs(some, most=10**6)
    assert sum(pairs["photos"]) == n - some.right.sum()
    assert pairs["photos"] == sorted(pairs["photos"], reverse=True)
    wrong = worst_mistakes(some, most=10**6)
    assert len(wrong["photo"]) == n - some.right.sum()
    assert wrong["probability"] == sorted(wrong["probability"], reverse=True)
    if some.top5 is not None:
        assert some.accuracy <= some.top5 <= 1


def test_confusion_has_breeds_in_rows_and_guesses_in_columns():
    assert SOME.confusion.tolist() == [
        [1, 2, 1, 0, 0],
        [0, 2, 0, 0, 0],
        [1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
    table = confusion_table(SOME)
    assert list(table) == ["breed", "guess", "photos"] and len(table["photos"]) == 25
    rows = list(zip(*table.values(), strict=True))
    assert rows[1] == ("000.Breed_0", "001.Breed_1", 2)
    assert rows[10] == ("002.Breed_2", "000.Breed_0", 1)


def test_per_breed_leaves_out_breeds_without_a_photo():
    table = per_breed(SOME)
    assert table["breed"] == [f"{i:03}.Breed_{i}" for i in (0, 1, 2, 4)]
    assert table["photos"] == [4, 2, 3, 1] and table["right"] == [1, 2, 1, 1]
    assert table["accuracy"] == pytest.approx([0.25, 1, 1 / 3, 1])
    for row in zip(
        *(table[n] for n in ("right", "photos", "low", "high")), strict=True
    ):
        assert row[2:] == wilson(*row[:2])


def test_the_most_frequent_mistakes():
    pairs = confused_pairs(SOME, most=3)
    assert pairs["photos"] == [2, 1, 1]
    assert (pairs["breed"][0], pairs["guess"][0]) == ("000.Breed_0", "001.Breed_1")
    assert len(confused_pairs(SOME)["photos"]) == 4


def test_the_surest_mistakes():
    table = worst_mistakes(SOME, most=3)
    names = ["002.Breed_2/6", "000.Breed_0/1", "002.Breed_2/7"]
    assert table["photo"] == [f"test/{name}.jpg" for name in names]
    assert table["breed"] == [f"00{i}.Breed_{i}" for i in (2, 0, 2)]
    assert table["guess"] == [f"00{i}.Breed_{i}" for i in (0, 1, 3)]
    assert table["probability"] == pytest.approx([0.95, 0.9, 0.9])


def test_no_mistakes_at_all():
    for table in (confused_pairs(PERFECT), worst_mistakes(PERFECT)):
        assert not any(table.values()) and "breed" in table


def test_tables_hold_plain_values_that_json_takes():
    choice = Choice("kennel", "toy", None, Path("home"))
    tables = [f(SOME) for f in (confusion_table, per_breed, confused_pairs)]
    for value in (*tables, worst_mistakes(SOME), summary(SOME, choice)):
        assert json.loads(json.dumps(value)) == value


def test_the_summary_has_the_specified_keys():
    facts = summary(SOME, Choice("kennel", "toy", None, Path("home")))
    assert facts == {
        "accuracy": 0.5,
        "interval": list(wilson(5, 10)),
        "top5": 1.0,
        "n_photos": 10,
        "n_breeds": 5,
        "n_left_out": 2,
        "photos": "kennel",
        "module": "toy",
    }
    assert summary(PERFECT, Choice("a", "b", None, Path("c")))["top5"] is None


# --- of a finished home ------------------------------------------------------------


def test_the_shared_photos_are_told_apart(done):
    result = evaluate(done)
    assert result.accuracy >= 0.8 and len(result.labels) == 15
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert result.top5 is None and result.n_left_out == 0


def test_left_out_photos_of_all_splits_are_counted(mine, grid, tmp_path):
    for split in ("train", "valid", "test"):
        (mine / split / "002.Grass_hound" / "bad.jpg").write_bytes(b"no image")
    (mine / "test" / "stray.txt").write_text("stray")
    result = evaluate(Choice(str(mine), str(grid), None, tmp_path / "home"))
    assert result.n_left_out == 4 and len(result.labels) == 15


def test_breeds_without_test_photos(mine, grid, tmp_path):
    shutil.rmtree(mine / "test" / "001.Red_setter")
    shutil.rmtree(mine / "valid" / "002.Grass_hound")
    for file in (mine / "test" / "002.Grass_hound").iterdir():
        file.unlink()
    result = evaluate(Choice(str(mine), str(grid), None, tmp_path / "home"))
    assert len(result.breeds) == 3 and set(result.labels) == {2}
    assert result.probabilities.shape == (4, 3)
    assert per_breed(result)["breed"] == ["003.Striped_pointer"]


def test_seven_breeds_of_any_size(seven):
    result = evaluate(seven)
    assert len(result.breeds) == 7 and result.accuracy <= result.top5 <= 1


def test_predict_believes_what_evaluate_believes(done, photos):
    result = evaluate(done)
    guesses = predict(done, [photos / path for path in result.paths], most=3)
    for row, guessed in zip(result.probabilities, guesses, strict=True):
        believed = {g["breed"]: g["probability"] for g in guessed["guesses"]}
        assert [believed[b] for b in result.breeds] == pytest.approx(row, abs=1e-6)
    one = predict(done, [photos / result.paths[4]], most=3)
    assert one[0]["photo"] == str(photos / result.paths[4])
    values = [[g["probability"] for g in r["guesses"]] for r in (one[0], guesses[4])]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_guesses_come_most_probable_first(seven, many):
    path = many / "test" / "003.Breed_3" / "dog_00.jpg"
    (result,) = predict(seven, [path])
    values = [guess["probability"] for guess in result["guesses"]]
    assert len(values) == 5 and values == sorted(values, reverse=True)
    assert len(predict(seven, [path], most=100)[0]["guesses"]) == 7
    assert result["guesses"][0]["breed"] in train(seven).breeds


def test_bad_photos_among_good_ones(done, photos, tmp_path):
    good = photos / evaluate(done).paths[0]
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    Image.new("CMYK", (80, 20)).save(tmp_path / "ink.jpg")
    asked = ["bad.jpg", good, "missing.jpg", tmp_path, "ink.jpg", str(good)]
    results = predict(done, asked)
    assert [result["photo"] for result in results] == list(map(str, asked))
    assert ["error" in r for r in results] == [True, False, True, True, False, False]
    assert all(("guesses" in r) != ("error" in r) for r in results)
    assert all(r["error"] and "\n" not in r["error"] for r in results if "error" in r)
    assert results[1]["guesses"] == results[5]["guesses"]


def test_only_bad_photos_or_none(done, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    load.cache_clear()
    assert "error" in predict(done, ["bad.jpg"])[0]
    assert predict(done, []) == []
    assert load.cache_info().currsize == 0  # there was nothing to load it for


def test_predict_takes_the_size_of_the_choice(seven, many, tmp_path):
    path = many / "test" / "002.Breed_2" / "dog_01.png"
    small = replace(seven, size=8, home=tmp_path / "home")
    one, other = (predict(choice, [path])[0]["guesses"] for choice in (small, seven))
    assert one != other
    for choice, guesses in ((small, one), (seven, other)):
        result = evaluate(choice)
        row = result.probabilities[result.paths.index(str(path.relative_to(many)))]
        assert guesses[0]["probability"] == pytest.approx(float(row.max()), abs=1e-6)


def test_another_seed_is_another_evaluation(done, tmp_path):
    copy = replace(done, home=shutil.copytree(done.home, tmp_path / "copy"), seed=1)
    assert (evaluate(copy).probabilities != evaluate(done).probabilities).any()
