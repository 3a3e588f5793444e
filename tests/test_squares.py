"""Squares are the centres of photos, each made once; photos without one are named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BREEDS, files_of, sentence, times_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import get_sampling
from test_photos import BAD

import dogtl

TESTS = Path(__file__).parent
sides = st.integers(1, 90)
few = settings(max_examples=60, deadline=None)


def noise(width, height, seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image) -> np.ndarray:
    return np.asarray(image).astype(int)


# --- one square ----------------------------------------------------------------------


@given(sides, sides, sides, st.tuples(*[st.integers(0, 255)] * 3))
@few
def test_one_colour_stays_that_colour_in_every_size(width, height, size, colour):
    square = dogtl.make_square(Image.new("RGB", (width, height), colour), size)
    assert square.size == (size, size) and (pixels(square) == colour).all()


@given(sides, sides, st.integers(8, 40))
@few
def test_it_is_the_centre_for_odd_and_even_sides_and_a_resize(width, height, size):
    photo = noise(width, height).point(lambda value: 90 + value // 4)  # clips nowhere
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crop = photo.crop((left, top, left + side, top + side))
    assert (pixels(dogtl.make_square(photo, side)) == pixels(crop)).all()
    expected = crop.resize((size, size), Image.Resampling.LANCZOS)
    rim = 1 - (-3 * max(size, side) // side)  # where the filter sees beyond the crop
    inner = (slice(rim, size - rim),) * 2
    off = abs(pixels(dogtl.make_square(photo, size)) - pixels(expected))
    assert off[inner].max(initial=0) <= 2


# --- a folder of squares -------------------------------------------------------------


def files(squares) -> dict[Path, Path]:
    """Each photo's square."""
    return {
        photo: file
        for split in squares.paths
        for photo, file in zip(squares.paths[split], squares.files[split], strict=True)
    }


def test_every_photo_has_its_square(mine):
    large = mine / "train/001.Red_setter/large.jpg"  # it's decoded smaller
    noise(32, 24).resize((1280, 960), Image.Resampling.BICUBIC).save(large, quality=95)
    squares = dogtl.square(dogtl.load_photos(mine), 48)
    assert set(files(squares)) == {path for path in mine.rglob("*") if path.is_file()}
    for photo, file in files(squares).items():
        expected = pixels(dogtl.make_square(dogtl.read_photo(photo), 48))
        assert dogtl.read_square(file).shape == (48, 48, 3)
        assert abs(dogtl.read_square(file) - expected).mean() < 6
    noise(9, 9).save("best.jpg", quality=95, subsampling="4:4:4")
    with Image.open(file) as square, Image.open("best.jpg") as best:
        assert square.format == "JPEG" and get_sampling(square) == get_sampling(best)
        assert square.quantization == best.quantization
    breeds = [squares.breeds[label] for label in squares.labels["test"]]
    assert breeds == [path.parent.name for path in squares.paths["test"]]
    text = "25 train, 12 valid, 15 test squares of 48 x 48 pixels, 3 breeds, 0 skipped"
    assert repr(squares) == text


def test_a_lost_square_is_made_again(photos, home):
    squares, before = dogtl.square(dogtl.load_photos(photos), 32), files_of(home)
    gone, emptied = lost = squares.files["valid"][::6]
    gone.unlink()
    emptied.write_bytes(b"")
    left = times_of(home)
    assert files(dogtl.square(dogtl.load_photos(photos), 32)) == files(squares)
    assert files_of(home) == before
    changed = times_of(home).items() - left.items()
    assert {name for name, _ in changed} == set(map(str, lost))


ODD = ["no_suffix", "a", "a.", "a.jpg", "a.png", "a.jpg.jpg", "A.jpg", "a b", "a-b"]
ODD += [
    "Ünï 犬.png",
    "Ünï 猫.png",
    "🐶👩‍👧.jpg",
    "tab\t\n.jpg",
    "-.jpg",
    "--help",
    "%s.jpg",
]
ODD += ["'\"$x$`.jpg", "<b onclick=alert(1)>.jpg", "\x1b[31mred.jpg", " ", "\u202egpj"]
ODD += ["x" * 250, f"{'x' * 50}1.jpg", f"{'y' + 'x' * 49}1.jpg", "caf\udce9.jpg"]


def test_photos_with_odd_and_similar_names_have_squares_of_their_own(mine):
    breed = mine / "train" / "Ünï\n\x1b[31m <b>'\udce9"
    try:
        breed.mkdir()
        for seed, name in enumerate(ODD):
            with open(breed / name, "wb") as file:
                noise(30, 40, seed).save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes Unicode only")
    squares = dogtl.square(dogtl.load_photos(mine), 32)
    assert not any(squares.skipped.values())
    assert len(set(files(squares).values())) == len(files(squares))
    for seed, name in enumerate(ODD):
        expected = dogtl.make_square(noise(30, 40, seed), 32)
        square = dogtl.read_square(files(squares)[breed / name])
        assert abs(square - pixels(expected)).mean() < 6


# --- photos without a square ---------------------------------------------------------


def test_bad_photos_are_skipped_and_named_every_time(mine, home, caplog):
    breed = mine / "test/001.Red_setter"
    bytes_of = {breed / f"{name}\n\x1b[31m": data for name, data in BAD.items()}
    bytes_of[mine / "train/notes.txt"] = b"notes"  # in the wrong place
    for path, data in bytes_of.items():
        path.write_bytes(data)
    bad = sorted(bytes_of)
    caplog.set_level("INFO")
    for time in ("first", "second"):
        before = times_of(home)
        squares = dogtl.square(dogtl.load_photos(mine), 32)
        skipped = squares.skipped["train"] | squares.skipped["test"]
        assert sorted(skipped) == bad and not squares.skipped["valid"]
        assert not skipped.keys() & files(squares).keys()
        for path, reason in skipped.items():
            name = path.relative_to(mine)
            assert f"skipped {name}: {reason}" in caplog.messages
        assert len(squares.files["test"]) == len(squares.labels["test"]) == 15
        assert repr(squares).endswith(f"{len(bad)} skipped")
        assert ("train squares: nothing to do" in caplog.text) == (time == "second")
        assert (times_of(home) == before) == (time == "second")
        caplog.clear()
    noise(40, 40).save(bad[0], "PNG")
    photos = dogtl.load_photos(mine)
    bad[1].unlink()
    mended = dogtl.square(photos, 32)
    assert set(files(mended)) - set(files(squares)) == {bad[0]}
    assert mended.skipped["test"][bad[1]] == "No such file or directory"


WITHOUT_RIGHTS = """
import sys
from pathlib import Path
import numpy as np
import dogtl
from conftest import Means
from dogtl.linear import LinearLayer

folder, photo = map(Path, sys.argv[1:])
for place, mode in ((folder, 0), (folder / "test", 0o600), (photo.parent, 0o300)):
    place.chmod(mode)
    try:
        dogtl.load_photos(folder)
    except dogtl.DogtlError as error:
        print(error)
    place.chmod(0o700)
module, photos = Means(), dogtl.load_photos(folder)
made_by = {"fingerprint": module.fingerprint}
layer = LinearLayer(np.ones((48, 2)), np.ones(2), ["a", "b"], made_by, 0, {})
for mode in (0, 0o600):
    photo.chmod(mode)
    skipped = dogtl.square(photos, 32).skipped["test"]
    print([(str(path), reason) for path, reason in skipped.items()])
photo.chmod(0)
photos.paths["train"][0].parent.chmod(0)
results = dogtl.predict(layer, module, folder)
print(len(results), [tuple(one.values()) for one in results if "error" in one])
photos.paths["train"][0].parent.chmod(0o700)
"""


def test_rights_that_are_missing_are_named_and_may_be_given_later(mine):
    photo = dogtl.load_photos(mine).paths["test"][3]
    command = [sys.executable, "-c", WITHOUT_RIGHTS, str(mine), str(photo)]
    if not os.geteuid():  # root may open all
        if not shutil.which("setpriv"):
            pytest.skip("setpriv isn't there")
        rights = "--bounding-set=-dac_override,-dac_read_search"
        command = ["setpriv", rights, *command]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    run = subprocess.run(command, capture_output=True, text=True, env=env)
    *refused, skipped, given, predicted = run.stdout.splitlines() or [run.stderr]
    for line, place in zip(refused, (mine, mine / "test", photo.parent), strict=True):
        assert line.startswith(f"you lack permission to read the folder {place}: ")
    unread, unlisted = (
        (str(path), "Permission denied") for path in (photo, mine / "train" / BREEDS[0])
    )
    assert (skipped, given) == (str([unread]), "[]")
    assert predicted == f"43 {[unread, unlisted]}"


def test_a_photo_too_large_for_the_memory_is_skipped_and_tried_again(mine, monkeypatch):
    photo = dogtl.load_photos(mine).paths["valid"][3]
    make_square = dogtl.squares.make_square

    def run_out(image, size):
        if image.size == (41, 43):
            raise MemoryError
        return make_square(image, size)

    noise(41, 43).save(photo, "PNG")
    with monkeypatch.context() as patch:
        patch.setattr(dogtl.squares, "make_square", run_out)
        skipped = dogtl.square(dogtl.load_photos(mine), 32).skipped
    reason = "there isn't enough memory for it"
    assert skipped == {"train": {}, "valid": {photo: reason}, "test": {}}
    squares = dogtl.square(dogtl.load_photos(mine), 32)
    assert not any(squares.skipped.values()) and files(squares)[photo].is_file()


def test_a_split_without_a_readable_photo_gives_one_sentence(mine):
    for file in filter(Path.is_file, (mine / "test").rglob("*")):
        file.write_bytes(b"no image")
    with pytest.raises(dogtl.DogtlError, match="no usable test photo:") as error:
        dogtl.square(dogtl.load_photos(mine), 32)
    assert str(mine) in sentence(error)
