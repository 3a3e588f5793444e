"""What's stored is never stale, never half read, made no more than once, and safe."""

import errno
import json
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from inspect import getsource
from pathlib import Path

import numpy as np
import pytest
from conftest import BREEDS, Means, draw, python, times_of
from hypothesis import given, settings
from hypothesis import strategies as st

import dogtl
from dogtl import store

RED, GRASS, STRIPED = BREEDS


def squared_and_extracted(photos, home=None, size=32) -> tuple[dict, dict]:
    """Each photo's square, as bytes, and each photo's breed and bottleneck."""
    squares, files, rows = dogtl.square(dogtl.load_photos(photos), size, home), {}, {}
    for split, made in dogtl.extract(squares, Means(size), home).items():
        for i, photo in enumerate(made.paths):
            files[photo] = squares.files[split][i].read_bytes()
            rows[photo] = made.breeds[made.labels[i]], made.features[i].tolist()
    return files, rows


# --- a change is always seen, and costs no more than it must -------------------------

CHANGES = {}


def costs(n_squared, n_extracted):
    """Note how many photos a change makes us square and extract."""

    def note(change):
        CHANGES[change.__name__] = change, n_squared, n_extracted
        return change

    return note


def repaint(path, size=None, keep_time=False):
    """Put another image in a photo's place."""
    stat = path.stat()
    size = size or dogtl.read_photo(path).size
    draw(3, size, np.random.default_rng(9)).save(path)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return stat.st_size == path.stat().st_size


@costs(1, 0)
def another_time(mine):
    file = mine / "train" / RED / "dog_02.jpeg"
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))


@costs(1, 1)
def another_photo_of_the_same_size(mine):
    assert repaint(mine / "train" / RED / "dog_03.bmp")


@costs(1, 1)
def another_photo_of_the_same_time(mine):
    assert not repaint(mine / "test" / GRASS / "dog_03.bmp", (90, 80), keep_time=True)


@costs(2, 0)
def two_photos_swapped(mine):
    one, other = (mine / "test" / breed / "dog_01.png" for breed in (RED, GRASS))
    one.rename(mine / "aside")
    other.rename(one)
    (mine / "aside").rename(other)


@costs(2, 1)
def one_added_to_two_splits(mine):
    photo = mine / "valid" / STRIPED / "a.png"
    draw(1, (40, 50), np.random.default_rng(8)).save(photo)
    shutil.copy(photo, mine / "test" / STRIPED / "b.png")


@costs(1, 0)
def one_moved_to_another_split(mine):
    name = f"{STRIPED}/dog_07.JPG"
    (mine / "train" / name).rename(mine / "test" / name)


@costs(51, 0)
def the_folder_moved(mine):
    return mine.rename(mine.with_name("elsewhere"))


@costs(51, 1)
def another_folder_that_looks_alike(mine):
    """Its photos have equal paths inside, sizes and times."""
    (mine.parent / "other").mkdir()
    other = shutil.copytree(mine, mine.parent / "other" / mine.name)
    assert repaint(other / "train" / RED / "dog_03.bmp", keep_time=True)
    return other


@costs(12, 0)
def a_split_renamed(mine):
    (mine / "valid").rename(mine / "validation")


@costs(18, 0)
def a_breed_renamed(mine):
    for split in ("train", "valid", "test"):
        (mine / split / RED).rename(mine / split / "Setter")


@costs(1, 0)
def one_renamed(mine):
    photo = mine / "train" / RED / "dog_00.jpg"
    photo.rename(photo.with_name("other.jpg"))


@costs(0, 0)
def one_removed(mine):
    (mine / "train" / RED / "dog_00.jpg").unlink()


@costs(7, 0)
def a_breed_added_before_all_others(mine):
    shutil.copytree(mine / "train" / GRASS, mine / "train" / "000.New")


@costs(0, 0)
def one_spoilt(mine):
    (mine / "valid" / RED / "dog_00.jpg").write_bytes(b"no image")


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_and_costs_no_more_than_it_must(mine, home, seen, change):
    change, n_squared, n_extracted = CHANGES[change]
    squared_and_extracted(mine)
    before = times_of(home)
    seen.clear()
    mine = change(mine) or mine
    after = squared_and_extracted(mine)
    assert len(seen) == n_extracted
    new = times_of(home).items() - before.items()
    assert sum(name.endswith(".jpg") for name, _ in new) == n_squared
    assert after == squared_and_extracted(mine, home.with_name("fresh"))


def test_another_size_is_made_beside_the_first(photos, home, seen):
    first = squared_and_extracted(photos)
    before = times_of(home)
    small = squared_and_extracted(photos, size=16)
    assert before.items() <= times_of(home).items() and len(seen) == 2 * 51
    assert squared_and_extracted(photos) == first
    assert squared_and_extracted(photos, size=16) == small and len(seen) == 2 * 51


def test_photos_that_change_during_a_run(mine, home, thorough):
    """The run ends, or says why not; the next one is right."""
    rng, extras = random.Random(0), sorted(mine.glob("train/*/*"))
    for turn in range(20 if thorough else 3):
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(squared_and_extracted, mine, home)
            while not running.done():
                one, other = rng.sample(extras, 2)
                shutil.copy(one, other)  # it's there in part for a moment
                os.replace(shutil.copy2(other, mine / "aside"), one)
        assert isinstance(running.exception(), dogtl.DogtlError | OSError | None)
        right = squared_and_extracted(mine, home.with_name(f"fresh{turn}"))
        assert squared_and_extracted(mine, home) == right


RUN = f"""
import sys
from pathlib import Path

import numpy as np

import dogtl

{getsource(Means)}
squares = dogtl.square(dogtl.load_photos(sys.argv[1]), 24)
np.save("features.npy", dogtl.extract(squares, Means(24))["train"].features)
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "squared", "extracted"),
    [
        ("squares.py", "Resampling.LANCZOS", "Resampling.BOX", 51, 51),
        ("squares.py", "def make_square", "# a comment\ndef make_square", 51, 0),
        ("bottlenecks.py", "BATCH = 8", "BATCH = 16", 0, 51),
        ("figures.py", "\n\n\n", "\n\n\n# a comment\n", 0, 0),
        ("../pillow-99.dist-info/METADATA", "", "Version: 99", 51, 51),
        ("../tensorflow-99.dist-info/METADATA", "", "Version: 99", 0, 51),
    ],
)
def test_edited_code_makes_its_results_again(
    photos, home, tmp_path, monkeypatch, file, old, new, squared, extracted
):
    files, rows = squared_and_extracted(photos, size=24)
    stored = times_of(home)
    package = Path(dogtl.__file__).parent
    edited = tmp_path / "edited" / "dogtl"
    skip = shutil.ignore_patterns("module", "siblings", "__pycache__")
    shutil.copytree(package, edited, ignore=skip)
    file = edited / file
    if not file.exists():  # another version of a package, as its installer leaves it
        file.parent.mkdir()
        file.touch()
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    monkeypatch.chdir(edited.parent)  # where Python looks for packages first
    process = python(RUN, photos)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    made = [Path(name) for name in times_of(home).keys() - stored.keys()]
    assert sum(path.suffix == ".jpg" for path in made) == squared
    shards = [store.load_arrays(path) for path in made if path.suffix == ".npz"]
    assert sum(len(shard["hashes"]) for shard in shards) == extracted
    expected = [row for path, (_, row) in rows.items() if path.parts[-3] == "train"]
    differ = (np.load("features.npy") != expected).any(axis=1)
    assert differ.all() if new == "Resampling.BOX" else not differ.any()
    assert squared_and_extracted(photos, size=24) == (files, rows)


# --- the store itself ----------------------------------------------------------------


def test_the_home_is_an_argument_a_variable_or_data(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert store.find_home("given") == store.find_home(Path("given")).absolute()
    assert store.find_home("~/given") == tmp_path / "me" / "given"
    assert store.find_home() == tmp_path / "home"  # DOGTL_HOME
    monkeypatch.setenv("DOGTL_HOME", "variable")
    assert store.find_home() == tmp_path / "variable"
    monkeypatch.setenv("DOGTL_HOME", "")
    (tmp_path / "pyproject.toml").touch()  # the current folder's is no checkout
    assert store.find_home() == Path(dogtl.__file__).parents[1] / "data"
    caplog.set_level("INFO")
    monkeypatch.setattr(store, "CHECKOUT", tmp_path / "site-packages")
    assert store.find_home() == tmp_path / "data"
    assert f"results go to {tmp_path / 'data'}" in caplog.text


text = st.text('ab,:1"[]é\udce9', max_size=4)
arrays = st.sampled_from(
    [np.zeros(shape, kind) for shape in ((), 2, 4, (2, 2), (1, 4)) for kind in "bfdi"]
)
plain = st.none() | st.booleans() | st.integers(0, 12) | st.floats(0, 1) | text
parts = st.lists(arrays | st.recursive(plain, st.lists, max_leaves=4), max_size=3)


@given(parts, parts)
@settings(max_examples=80, deadline=None)
def test_fingerprints_are_equal_only_for_equal_parts(one, other):
    def content(parts):
        return [
            (part.dtype.str, part.shape, part.tobytes())
            if isinstance(part, np.ndarray)
            else json.dumps(part)
            for part in parts
        ]

    equal = store.fingerprint(*one) == store.fingerprint(*other)
    assert equal == (content(one) == content(other))
    assert len(store.fingerprint(*one)) == 20


def test_fingerprints_are_of_content_alone(tmp_path):
    table = np.arange(12.0).reshape(3, 4)
    assert store.fingerprint(table.T) == store.fingerprint(table.T.copy())
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1")
    other.write_text("a = 1")
    os.utime(other, (1, 1))
    for content in (store.fingerprint_file, lambda path: store.code_version(str(path))):
        assert content(one) == content(other)
        other.write_text("a = 2")
        assert content(one) != content(other)
        other.write_text("a = 1")
    assert store.code_version("numpy") != store.code_version("pillow")


def fill_the_disk(descriptor):
    raise OSError(errno.ENOSPC, "the disk is full")


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    store.atomic_write(path, b"first", modified=1000)
    assert path.read_bytes() == b"first" and path.stat().st_mtime == 1000
    before = times_of(tmp_path)
    store.atomic_write(path, b"first")
    assert times_of(tmp_path) == before  # it had these bytes
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full") as caught:
        patch.setattr(os, "fsync", fill_the_disk)
        store.atomic_write(path, b"second")
    assert times_of(tmp_path) == before and caught.value.filename == str(path)

    def write(number):
        store.atomic_write(path, bytes([number]) * 50_000)
        content = path.read_bytes()
        return len(content) == 50_000 and len(set(content)) == 1

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(100)))
    assert list(path.parent.iterdir()) == [path]


def test_what_killed_processes_left_is_swept(tmp_path):
    for name in ("a[1].jpg", "b.jpg", "old.jpg"):
        target = tmp_path / "deeper" / name
        target.parent.mkdir(exist_ok=True)
        store.temporary_path(target).write_bytes(b"half")
        store.temporary_path(target).mkdir()
        began = 1e9 if name == "old.jpg" else time.time() - 1
        for path in store.temporary_paths_of(target):
            os.utime(path, (began, began))
    store.atomic_write(tmp_path / "deeper" / "a[1].jpg", b"whole")
    (tmp_path / "deeper" / ".hidden").touch()
    store.sweep(tmp_path)
    left = sorted(path.name for path in (tmp_path / "deeper").iterdir())
    assert [name[:7] for name in left] == [".b.jpg.", ".b.jpg.", ".hidden", "a[1].jp"]


def test_a_file_that_is_being_replaced_is_not_swept(tmp_path, monkeypatch):
    file, replace = tmp_path / "a.npz", os.replace
    store.atomic_write(file, b"old")

    def be_slow(part, path):
        store.sweep(tmp_path)
        replace(part, path)

    monkeypatch.setattr(os, "replace", be_slow)
    store.atomic_write(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_faster_process_may_tidy_up(tmp_path, monkeypatch):
    """Its file is as right as ours, whose temporary file it deleted."""
    file, replace = tmp_path / "a.npz", os.replace

    def be_late(part, path):
        replace(part, path)
        store.sweep(path.parent)
        replace(part, path)

    monkeypatch.setattr(os, "replace", be_late)
    store.atomic_write(file, b"whole")
    assert file.read_bytes() == b"whole"
    monkeypatch.setattr(os, "replace", lambda part, path: replace("none", path))
    with pytest.raises(FileNotFoundError):
        store.atomic_write(tmp_path / "b.npz", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


names = st.text(st.characters(exclude_characters="\0"), max_size=5)
fields = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.one_of(
        names,
        st.integers(-(2**40), 2**40),
        st.floats(allow_nan=False),
        st.lists(names, min_size=1, max_size=4),
        arrays.filter(np.ndim),
    ),
)


@given(fields)
@settings(max_examples=60, deadline=None)
def test_arrays_come_back_and_equal_ones_give_equal_bytes(fields):
    one, other = Path("one.npz"), Path("other.npz")
    store.save_arrays(one, fields)
    store.save_arrays(other, dict(fields))
    assert one.read_bytes() == other.read_bytes()
    back = store.load_arrays(one)
    assert back.keys() == fields.keys()
    for name, value in fields.items():
        assert type(back[name]) is type(value)
        np.testing.assert_array_equal(back[name], value, strict=True)
