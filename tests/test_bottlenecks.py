"""Bottlenecks are what the module says of the squares, each computed once."""

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import draw, export, files_of, kill_once, python, times_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dogtl.bottlenecks import BATCH, extract, features_of, read_bottlenecks
from dogtl.choices import Choice
from dogtl.modules import describe, load
from dogtl.squares import square


def by_hand(file) -> np.ndarray:
    """The 48 features of a square: the mean colours of its 4 x 4 grid."""
    with Image.open(file) as image:
        pixels = np.asarray(image).astype(np.float64) / 255
    return pixels.reshape(4, 8, 4, 8, 3).mean((1, 3)).ravel()


def same(one, other) -> bool:
    return all(
        (one[split].features == other[split].features).all()
        and (one[split].labels == other[split].labels).all()
        and {**vars(one[split]), "features": 0, "labels": 0}
        == {**vars(other[split]), "features": 0, "labels": 0}
        for split in one
    )


# --- what is in them ---------------------------------------------------------------


def test_the_module_applied_by_hand(done):
    squares, stored = square(done), extract(done)
    assert list(stored) == ["train", "valid", "test"]
    for split, made in stored.items():
        expected = [by_hand(squares.square_of(path)) for path in squares.paths[split]]
        assert made.features.dtype == np.float32
        np.testing.assert_allclose(made.features, expected, atol=1e-6)


def test_labels_breeds_and_paths(done, photos):
    squares = square(done)
    for split, made in extract(done).items():
        assert made.paths == squares.paths[split] and made.labels.dtype == np.int64
        assert made.breeds == sorted(os.listdir(photos / "train"))
        of_labels = [made.breeds[label] for label in made.labels]
        assert of_labels == [path.split("/")[1] for path in made.paths]
        assert str(made) == f"{len(made.paths)} bottlenecks of 48 features"
        assert made.left_out == []


def test_provenance_says_from_what(done, photos, grid):
    for made in extract(done).values():
        facts = [made.provenance[name] for name in ("photos", "module", "size")]
        assert facts == [str(photos), str(grid), 32]


def test_nothing_stored_can_run(done):
    files = list((done.home / "bottlenecks").rglob("*.npz"))
    assert sorted(file.name for file in files) == ["test.npz", "train.npz", "valid.npz"]
    for file in files:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        assert not any(array.dtype.hasobject for array in arrays.values())
        names = {"features", "labels", "breeds", "paths", "left_out", "provenance"}
        assert set(arrays) == names


def test_files_and_bytes_in_batches_of_any_size(done, grid):
    squares = square(done)
    files = [squares.square_of(path) for path in squares.paths["train"]] * 3
    assert len(files) > 2 * BATCH
    network = load(str(grid))
    batches = list(features_of(network, files))
    assert [len(b) for b in batches] == [BATCH, BATCH, len(files) - 2 * BATCH]
    from_files = np.concatenate(batches)
    contents = [file.read_bytes() for file in files]
    from_bytes = np.concatenate(list(features_of(network, contents)))
    alone = np.concatenate([*features_of(network, contents[:1])])
    assert (from_files == from_bytes).all() and (from_files[:1] == alone).all()


def test_photos_left_out_are_named(mine, grid, tmp_path):
    (mine / "test/002.Grass_hound/bad.jpg").write_bytes(b"no image")
    (mine / "train/stray.txt").write_bytes(b"")
    stored = extract(Choice(str(mine), str(grid), None, tmp_path / "home"))
    assert stored["test"].left_out == ["test/002.Grass_hound/bad.jpg"]
    assert stored["train"].left_out == ["train/stray.txt"]
    assert stored["valid"].left_out == []


def test_a_flexible_module_and_validation(many, colours, tmp_path):
    stored = extract(Choice(str(many), str(colours), 20, tmp_path / "home"))
    assert [made.features.shape for made in stored.values()] == [(21, 6)] * 3
    assert stored["valid"].paths[0].startswith("validation/000")
    assert stored["valid"].provenance["size"] == 20


# --- done once ---------------------------------------------------------------------


@pytest.fixture
def copy(done, tmp_path):
    """A finished home of one's own."""
    return replace(done, home=shutil.copytree(done.home, tmp_path / "copy"))


def test_nothing_to_do_does_not_load_the_module(copy, caplog):
    first, before = extract(copy), times_of(copy.home)
    load.cache_clear()
    caplog.set_level("INFO")
    assert same(extract(copy), first)
    assert load.cache_info().currsize == 0 and times_of(copy.home) == before
    for split in first:
        assert f"bottlenecks of {split}: nothing to do" in caplog.text


def test_two_extractions_are_equal_byte_for_byte(chosen, done):
    extract(chosen)
    names = ("bottlenecks", "squares", "modules")
    for name in names:
        assert files_of(chosen.home / name) == files_of(done.home / name)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "gone", "text"])
def test_a_spoilt_file_is_made_again(copy, damage):
    expected = files_of(copy.home)
    (file,) = copy.home.rglob("test.npz")
    whole = file.read_bytes()
    file.unlink()
    spoilt = {"cut": whole[:-100], "garbage": bytes(reversed(whole)), "empty": b""}
    if damage != "gone":
        file.write_bytes(spoilt.get(damage, b"this is no archive\n"))
    others = times_of(copy.home)
    others.pop(str(file), None)
    extract(copy)
    assert files_of(copy.home) == expected
    assert times_of(copy.home).items() >= others.items()


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_damaged_file_is_never_half_read(data, done, tmp_path):
    (file,) = done.home.rglob("valid.npz")
    good, damaged = read_bottlenecks(file), bytearray(file.read_bytes())
    last = len(damaged) - 1
    for place in data.draw(st.lists(st.integers(0, last), max_size=4)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.just(last + 1) | st.integers(0, last))
    (tmp_path / "damaged.npz").write_bytes(damaged[:cut])
    seen = read_bottlenecks(tmp_path / "damaged.npz", good.provenance)
    assert seen is None or same({"valid": seen}, {"valid": good})


def test_a_damaged_directory_of_a_file_is_no_error(done, tmp_path):
    (file,) = done.home.rglob("valid.npz")
    good, damaged = read_bottlenecks(file), bytearray(file.read_bytes())
    start = damaged.index(b"PK\x01\x02")  # names, flags and versions of the parts
    for place in range(start, min(start + 120, len(damaged))):
        for flip in (1, 32, 64):
            damaged[place] ^= flip
            (tmp_path / "damaged.npz").write_bytes(damaged)
            seen = read_bottlenecks(tmp_path / "damaged.npz", good.provenance)
            assert seen is None or same({"valid": seen}, {"valid": good})
            damaged[place] ^= flip


def test_another_provenance_is_not_taken(done):
    (file,) = done.home.rglob("valid.npz")
    stored = read_bottlenecks(file)
    assert same({"valid": read_bottlenecks(file, stored.provenance)}, {"valid": stored})
    assert read_bottlenecks(file, {**stored.provenance, "size": 33}) is None


def test_a_changed_photo_is_seen(mine, grid, tmp_path):
    choice = Choice(str(mine), str(grid), None, tmp_path / "home")
    first = extract(choice)
    path = first["test"].paths[3]
    Image.new("RGB", (40, 40), (255, 0, 255)).save(mine / path, "PNG")
    again = extract(choice)
    assert all(same({s: first[s]}, {s: again[s]}) for s in ("train", "valid"))
    changed = (first["test"].features != again["test"].features).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [3]
    np.testing.assert_allclose(again["test"].features[3], [1, 0, 1] * 16, atol=0.02)


def test_a_photo_added_or_taken_away_is_seen(mine, grid, tmp_path):
    choice = Choice(str(mine), str(grid), None, tmp_path / "home")
    first = extract(choice)
    gone = first["train"].paths[0]
    (mine / gone).rename(mine / "test" / gone.split("/")[1] / "moved.jpg")
    again = extract(choice)
    assert again["train"].paths == first["train"].paths[1:]
    assert (again["train"].features == first["train"].features[1:]).all()
    place = [path.rpartition("/")[2] for path in again["test"].paths].index("moved.jpg")
    moved = again["test"].features[place]
    np.testing.assert_allclose(moved, first["train"].features[0], atol=1e-6)


def test_a_changed_module_is_seen(photos, tmp_path):
    folder = tmp_path / "module"
    choice = Choice(str(photos), str(folder), None, tmp_path / "home")
    export(folder, "Grid", scale=1.0)
    first = extract(choice)
    shutil.rmtree(folder)
    export(folder, "Grid", scale=2.0)
    for split, made in extract(choice).items():
        np.testing.assert_allclose(made.features, 2 * first[split].features, rtol=1e-6)


def test_another_size_is_another_extraction(photos, colours, tmp_path):
    small = Choice(str(photos), str(colours), 16, tmp_path / "home")
    first, before = extract(small), files_of(tmp_path / "home")
    extract(replace(small, size=24))
    after = files_of(tmp_path / "home")
    assert {name: after[name] for name in before} == before
    assert same(extract(small), first)


# --- killed in the middle ----------------------------------------------------------

EXTRACT = """
import sys
from dogtl import choose, extract
extract(choose(sys.argv[1], sys.argv[2], home=sys.argv[3]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """An extraction killed after some batches of train; `n` photos a split."""
    folder = tmp_path_factory.mktemp("killed")
    rng, n = np.random.default_rng(0), {"train": 6 * BATCH + 5, "valid": 3, "test": 3}
    for split, number in n.items():
        for i in range(number):
            home = folder / "photos" / split / f"breed_{i % 2}"
            home.mkdir(parents=True, exist_ok=True)
            draw(i % 2, (32, 32), rng).save(home / f"{i:04}.jpg")
    module = export(folder / "slow", "Grid", work=40)
    choice = Choice(str(folder / "photos"), str(module), None, folder / "home")
    square(choice)
    rows = choice.folder("bottlenecks", 32) / "train.rows"

    def n_rows():
        return (rows.stat().st_size - 300) // (4 * 48) if rows.exists() else 0

    process = python(EXTRACT, choice.photos, choice.module, choice.home)
    kill_once(process, lambda: n_rows() >= 2 * BATCH)
    return SimpleNamespace(choice=choice, rows=rows, n=n)


def resume(killed, home, change=lambda rows: None):
    """Go on in a copy of the killed home; gives how many squares the module saw."""
    choice = replace(killed.choice, home=shutil.copytree(killed.choice.home, home))
    change(choice.folder("bottlenecks", 32) / "train.rows")
    module = describe(choice)
    network = load(module.handle, module.stamp)
    network.work.assign(0)
    before = int(network.seen.numpy())
    stored = extract(choice)
    return choice, stored, int(network.seen.numpy()) - before


def rows_left(rows) -> int:
    header = len(rows.read_bytes().split(b"\n")[0]) + 1
    return (rows.stat().st_size - header) // (4 * 48)


def test_killed_and_run_again_computes_only_what_is_missing(killed, tmp_path):
    left = rows_left(killed.rows)
    assert 2 * BATCH <= left < killed.n["train"] and left % BATCH == 0
    choice, stored, seen = resume(killed, tmp_path / "resumed")
    assert seen == sum(killed.n.values()) - left
    undisturbed, at_once, seen = resume(killed, tmp_path / "home", os.unlink)
    assert seen == sum(killed.n.values())
    assert same(stored, at_once)
    assert files_of(choice.home) == files_of(undisturbed.home)
    assert not list(choice.home.rglob("*.rows")) + list(choice.home.rglob("*.part"))
    squares = square(choice)
    files = [squares.square_of(path) for path in squares.paths["train"]]
    by_hands = [by_hand(file) for file in files]
    np.testing.assert_allclose(stored["train"].features, by_hands, atol=1e-6)


def add(data: bytes):
    def change(rows):
        with open(rows, "ab") as out:
            out.write(data)

    return change


def cut(n_bytes: int):
    return lambda rows: os.truncate(rows, rows.stat().st_size - n_bytes)


@pytest.mark.parametrize(
    ("change", "lost"),
    [(add(b"\xff" * 190), 0), (add(b"\xff" * 192 * 3), 0), (cut(1), BATCH)],
)
def test_half_a_row_or_batch_at_the_end_is_dropped(killed, tmp_path, change, lost):
    left = rows_left(killed.rows) - lost
    choice, stored, seen = resume(killed, tmp_path / "resumed", change)
    assert seen == sum(killed.n.values()) - left
    undisturbed, at_once, _ = resume(killed, tmp_path / "home", os.unlink)
    assert same(stored, at_once)
    assert files_of(choice.home) == files_of(undisturbed.home)


@pytest.mark.parametrize(
    "start", [b"", b"nonsense", b"\n" * 5000, b"{}\n" + bytes(5000)]
)
def test_rows_of_something_else_are_not_used(killed, tmp_path, start):
    _, stored, seen = resume(
        killed, tmp_path / "resumed", lambda rows: rows.write_bytes(start)
    )
    assert seen == sum(killed.n.values())
    assert np.isfinite(stored["train"].features).all()
    assert (stored["train"].features != 0).all()
