"""Bottlenecks are what the module says of the squares, each computed once."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import Means, export, files_of
from PIL import Image

import dogtl


def by_hand(file) -> np.ndarray:
    """The 48 features of a square: the mean colours of its 4 x 4 grid."""
    square = dogtl.read_square(file) / 255
    return square.reshape(4, 8, 4, 8, 3).mean((1, 3)).ravel()


def extract(photos, module, home=None):
    """The bottlenecks of a folder of photos."""
    squares = dogtl.square(dogtl.load_photos(photos), module.size, home)
    return dogtl.extract(squares, module, home)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        (one[split].features == other[split].features).all()
        and (one[split].labels == other[split].labels).all()
        and [one[split].breeds, one[split].paths, one[split].skipped]
        == [other[split].breeds, other[split].paths, other[split].skipped]
        for split in one
    )


# --- what is in them -----------------------------------------------------------------


def test_they_are_the_module_applied_to_the_squares(done):
    assert list(done.bottlenecks) == ["train", "valid", "test"]
    for split, made in done.bottlenecks.items():
        expected = [by_hand(file) for file in done.squares.files[split]]
        assert made.features.dtype == np.float32 and made.labels.dtype == np.int64
        np.testing.assert_allclose(made.features, expected, atol=1e-6)
        assert made.paths == done.squares.paths[split] == done.photos.paths[split]
        assert [made.breeds[label] for label in made.labels] == [
            path.parent.name for path in made.paths
        ]
        assert made.skipped == {}
        name, fingerprint = done.module.name, done.module.fingerprint
        assert made.module == {"name": name, "fingerprint": fingerprint}


def test_skipped_photos_are_named(mine):
    bad = mine / "test/002.Grass_hound/bad.jpg"
    bad.write_bytes(b"no image")
    (mine / "train/stray.txt").write_bytes(b"")
    made = extract(mine, Means())
    assert {split: list(made[split].skipped) for split in made} == {
        "train": [mine / "train/stray.txt"],
        "valid": [],
        "test": [bad],
    }
    assert made["test"].features.shape == (15, 48)


def test_a_module_for_any_size(seven):
    made = seven.bottlenecks
    assert [split.features.shape for split in made.values()] == [(21, 6)] * 3
    assert made["valid"].paths[0].parts[-3] == "validation"
    squares = map(dogtl.read_square, seven.squares.files["test"])
    means = [square.mean((0, 1)) / 255 for square in squares]
    np.testing.assert_allclose(made["test"].features[:, :3], means, atol=1e-5)


def test_squares_of_another_size_give_one_sentence(done, home):
    squares = dogtl.square(done.photos, 20)
    with pytest.raises(dogtl.DogtlError, match="of 32 pixels, not of 20: ") as error:
        dogtl.extract(squares, done.module)
    assert "\n" not in str(error.value) and not (home / "bottlenecks").exists()


def test_batches_of_any_length_give_the_same_rows(done):
    files = done.squares.files["train"] * 3
    batches = list(dogtl.extract_features(files, done.module))
    rows = np.concatenate(batches)
    assert [len(batch) for batch in batches] == 9 * [8]
    (alone,) = dogtl.extract_features(files[:1], done.module)
    assert (rows == np.tile(rows[:24], (3, 1))).all()
    assert (alone == rows[:1]).all()
    assert list(dogtl.extract_features([], done.module)) == []


class Spoilt(Means):
    """Gives one number, `value`, instead of 0."""

    value = np.nan

    def __call__(self, images):
        features = super().__call__(images)
        return np.where(features == 0, np.float32(self.value), features)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -3e38])
def test_features_that_are_no_numbers_to_use_are_refused(
    mine, home, monkeypatch, value
):
    monkeypatch.setattr(Spoilt, "value", value)
    black = mine / "valid/003.Striped_pointer/black.png"
    Image.new("RGB", (40, 40)).save(black)
    with pytest.raises(dogtl.DogtlError, match="infinite, NaN or beyond 1e15") as error:
        extract(mine, Spoilt())
    assert f"{black} " in str(error.value) and "module means" in str(error.value)
    assert "\n" not in str(error.value)
    (train,) = home.rglob("*.npz")  # nothing of valid is stored
    assert len(dogtl.store.load_arrays(train)["hashes"]) == 24
    assert not list(home.rglob("*.part"))
    black.unlink()
    assert len(extract(mine, Spoilt())["valid"].features) == 12


@pytest.mark.parametrize(
    ("copies", "said"),
    [  # from where to where, A and B being breeds, and how sentences begin
        ([], []),
        (["test/A test/A"], []),
        (["test/A train/A"], ["test shares 1 photo, such as test/A/dog_00.jpg, with"]),
        (
            ["valid/A test/A", "valid/B test/B"],
            ["test shares 2 photos, such as test/A/copy.jpg, with valid: that"],
        ),
        (["test/A test/B"], ["breeds share 1 photo, such as test/B/copy.jpg: only"]),
        (["train/A valid/B"], ["valid shares 1 photo", "breeds share 1 photo"]),
    ],
)
def test_equal_photos_in_two_splits_or_breeds_are_told(mine, caplog, copies, said):
    def place(text):
        text = text.replace("A", "001.Red_setter")
        return mine / text.replace("B", "002.Grass_hound")

    for copy in copies:
        source, target = map(place, copy.split())
        shutil.copy(source / "dog_00.jpg", target / "copy.jpg")
    for _ in range(2):  # a finished run says it again
        caplog.clear()
        extract(mine, Means())
        warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert len(warned) == len(said)
        for text, start in zip(warned, said, strict=True):
            start = re.sub(r"\w+/[AB]", lambda match: str(place(match[0])), start)
            assert text.startswith(start)


def test_near_duplicates_are_found(few):
    made = extract(few, Means())
    rng = np.random.default_rng(0)
    train, test = made["train"], made["test"]
    assert dogtl.near_duplicates(made)["photo"] == []
    gap = np.linalg.norm(made["valid"].features - train.features[:, None], axis=2).min()
    features = test.features.copy()
    for row, twin, share in ((2, 5, 0.5), (0, 1, 0.1)):
        step = rng.normal(size=features.shape[1])
        step *= share * gap / np.linalg.norm(step)
        features[row] = train.features[twin] + step
    found = dogtl.near_duplicates(made | {"test": replace(test, features=features)})
    assert found["photo"] == [test.paths[0], test.paths[2]]
    assert found["twin"] == [train.paths[1], train.paths[5]]
    np.testing.assert_allclose(found["distance"], [0.1 * gap, 0.5 * gap], rtol=0.01)


def test_steps_take_bottlenecks_with_something_replaced(done, monkeypatch):
    splits = {
        split: replace(
            made,
            features=made.features[::2] * 100,
            labels=made.labels[::2],
            paths=[],  # nobody knows where they came from
        )
        for split, made in done.bottlenecks.items()
    }
    layer = dogtl.fit(splits["train"], splits["valid"], patience=1)
    evaluation = dogtl.evaluate(layer, splits["test"])
    assert layer.kernel.shape == (48, 3) and len(evaluation.labels) == 8
    monkeypatch.setattr(dogtl.linear, "MAX_EPOCHS", 1)
    assert dogtl.train(splits).kernel.shape == (48, 3)
    spoilt = replace(splits["test"], features=np.full((8, 48), np.nan))
    with pytest.raises(dogtl.DogtlError, match="row 0.*infinite, NaN or"):
        dogtl.evaluate(layer, spoilt)


def test_objects_are_described_in_a_few_lines_and_compared_by_identity(done):
    made = {name: thing for name, thing in vars(done).items() if name != "home"}
    made |= {"bottlenecks": done.bottlenecks["test"]}
    for name, thing in made.items():
        assert 1 <= len(repr(thing).splitlines()) <= 5 and len(repr(thing)) < 300, name
        twin = replace(thing)
        assert thing == thing and thing != twin and len({thing, twin}) == 2
        assert not any(thing == other for key, other in made.items() if key != name)
        with pytest.raises(AttributeError):
            thing.breeds = thing.name = []
    assert repr(made["bottlenecks"]) == "15 bottlenecks of 48 features, 3 breeds"


# --- computed once -------------------------------------------------------------------


NO_SHARDS = [{"features": np.zeros((24, 47), np.float32)}, {"features": "x"}]
NO_SHARDS += [{"features": np.zeros((24, 48))}, {"features": np.zeros(24, np.float32)}]
NO_SHARDS += [{"hashes": 3}, {"hashes": ["x"]}, {"hashes": np.arange(24)}]


def test_a_damaged_shard_is_made_again(photos, home, seen):
    first, good = extract(photos, Means()), files_of(home)
    fields = {file: dogtl.store.load_arrays(file) for file in home.rglob("*.npz")}
    (train,) = (file for file, shard in fields.items() if len(shard["hashes"]) == 24)
    for change in NO_SHARDS:
        seen.clear()
        dogtl.store.save_arrays(train, fields[train] | change)
        assert same(extract(photos, Means()), first) and len(seen) == 24
        assert files_of(home) == good


def test_another_module_or_size_extracts_again_and_a_touched_one_doesnt(
    photos, grid, colours, tmp_path, seen
):
    folder = shutil.copytree(grid, tmp_path / "module")
    first = extract(photos, dogtl.load_module(folder))
    assert len(seen) == 51
    for file in folder.rglob("*"):
        os.utime(file, (1, 1))
    (folder / ".DS_Store").write_bytes(b"x")
    assert same(extract(photos, dogtl.load_module(folder)), first) and len(seen) == 51
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert same(extract(photos, dogtl.load_module(copied)), first) and len(seen) == 51
    shutil.rmtree(folder)
    export(folder, "Grid", scale=2.0)
    twice = extract(photos, dogtl.load_module(folder))
    assert len(seen) == 102
    for split, made in twice.items():
        np.testing.assert_allclose(made.features, 2 * first[split].features, rtol=1e-6)
    small = extract(photos, dogtl.load_module(colours, 16))
    large = extract(photos, dogtl.load_module(colours, 32))
    assert len(seen) == 204
    assert (small["test"].features != large["test"].features).any(axis=1).all()
    assert same(extract(photos, dogtl.load_module(copied)), first)
    assert same(extract(photos, dogtl.load_module(colours, 16)), small)
    assert len(seen) == 204


def test_stopped_halfway_it_continues(photos, home, seen, monkeypatch):
    monkeypatch.setattr(dogtl.bottlenecks, "SHARD", 10)

    class Stopped(Means):
        def __call__(self, images):
            if len(seen) > 10:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        extract(photos, Stopped())
    (shard,) = home.rglob("*.npz")
    assert len(dogtl.store.load_arrays(shard)["hashes"]) == 10
    seen.clear()
    made = extract(photos, Means())
    assert len(seen) == 51 - 10
    undisturbed = home.with_name("undisturbed")
    assert same(made, extract(photos, Means(), undisturbed))
    assert files_of(home) == files_of(undisturbed)
