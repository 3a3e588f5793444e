"""The kennel draws the same photos from the same seed, and its brush draws anything."""

import doctest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from inspect import getsource
from itertools import combinations
from unittest import mock

import numpy as np
import pytest
from conftest import die_at, files_of, python, sentence, times_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageOps, ImageStat
from PIL.ExifTags import Base

import dogtl
from dogtl.toy import brush, kennel, variations

FEW = [photo for photo in kennel.photo_list() if photo.breed in ("Beagle", "Pug")][::9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few photos of the kennel, written by one thread."""
    folder = tmp_path_factory.mktemp("kennel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kennel, "photo_list", lambda seed=0: FEW)
        kennel.draw_kennel(folder, workers=1)
    return folder


def test_layout_and_counts():
    photos = kennel.photo_list()
    assert photos[0].path == "train/001.Afghan_hound/Afghan_hound_00001.jpg"
    assert len({photo.path.split("/")[2] for photo in photos}) == len(photos) == 840
    for split, total, least in (
        ("train", 480, 20),
        ("valid", 120, 5),
        ("test", 240, 10),
    ):
        counts = kennel.COUNTS[split]
        assert list(counts) == sorted(kennel.BREEDS) == list(kennel.BREEDS)
        assert sum(counts.values()) == total and min(counts.values()) >= least
        assert total == sum(photo.path.startswith(split) for photo in photos)


def test_streams_differ_between_photos_and_seeds():
    streams = {photo.stream for seed in (0, 1) for photo in kennel.photo_list(seed)}
    assert len(streams) == 2 * 840


def test_same_bytes_and_times_whatever_the_threads(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(kennel, "photo_list", lambda seed=0: FEW)
    seen = []

    def progress(photos, total, what):
        assert (total, what) == (len(FEW), "kennel")
        for photo in photos:
            seen.append(photo)
            yield photo

    def draw(workers):
        kennel.draw_kennel(tmp_path, 0, progress, workers)

    with ThreadPoolExecutor(2) as pool:  # two at once in one folder
        list(pool.map(draw, (2, 3)))
    assert len(seen) == 2 * len(FEW) == 2 * len(files_of(folder))
    assert files_of(tmp_path) == files_of(folder)
    assert {path.stat().st_mtime for path in tmp_path.rglob("*.jpg")} == {kennel.DRAWN}


KILLED = f"""
import sys

import dogtl

{getsource(die_at)}
kennel = dogtl.toy.kennel
few = [photo for photo in kennel.photo_list() if photo.path in sys.argv]
kennel.photo_list = lambda seed=0: few
die_at(8)
dogtl.load_photos("kennel")
"""


def test_a_drawing_that_was_killed_continues(folder, home, monkeypatch):
    process = python(KILLED, *[photo.path for photo in FEW])
    _, errors = process.communicate()
    assert process.returncode == -9, errors
    before = times_of(home)
    finished = {name: at for name, at in before.items() if name.endswith(".jpg")}
    assert 0 < len(finished) < 8 and len(before) > len(finished)
    monkeypatch.setattr(kennel, "photo_list", lambda seed=0: FEW)
    monkeypatch.setattr(kennel, "stored", mock.Mock(side_effect=kennel.stored))
    photos = dogtl.load_photos("kennel")
    assert kennel.stored.call_count == len(FEW) - len(finished)
    assert photos.name == "kennel" and photos.breeds == ["004.Beagle", "011.Pug"]
    assert files_of(photos.folder) == {".finished": b""} | files_of(folder)
    drawn = times_of(home)
    assert finished.items() <= drawn.items()
    assert sum(map(len, photos.paths.values())) == len(FEW)
    monkeypatch.setattr(kennel, "draw_kennel", None)  # it isn't called again
    assert dogtl.load_photos("kennel").paths == photos.paths
    assert times_of(home) == drawn


def test_another_seed_gives_other_photos():
    path = FEW[0].path
    one, other = kennel.draw_one(path, seed=0)[0], kennel.draw_one(path, seed=1)[0]
    assert one.size != other.size or one.tobytes() != other.tobytes()


def test_one_photo_again_is_what_the_kennel_wrote(folder):
    for photo in FEW:
        image, mask = kennel.draw_one(photo.path)
        with Image.open(folder / photo.path) as file:
            assert file.format == "JPEG" and file.mode == image.mode
            assert file.size == image.size == mask.size
            off = ImageStat.Stat(ImageChops.difference(file, image)).mean
        assert max(off) < 8  # what the JPEG lost
        assert all(250 <= side <= 700 for side in mask.size)
        seen = np.asarray(mask)
        assert set(np.unique(seen)) == {0, 255}
        assert 0.03 < (seen > 0).mean() < 0.8


def test_an_unknown_path_is_an_error():
    with pytest.raises(KeyError):
        kennel.draw_one("train/001.Afghan_hound/Afghan_hound_09999.jpg")


def test_photos_come_in_many_kinds(monkeypatch):
    drawn = []

    def fake(dog, rng):
        size = brush.sample_size(rng)
        return Image.new("RGB", size), Image.new("L", size)

    monkeypatch.setattr(kennel, "draw_photo", fake)
    for photo in kennel.photo_list():
        image, _, way = kennel.stored(photo)
        drawn.append((image.mode, way, *image.size))
    modes, ways, widths, heights = map(np.array, zip(*drawn, strict=True))
    assert set(modes) == {"RGB", "L", "CMYK"} and set(ways) == {1, 6, 8}
    assert (modes == "RGB").mean() > 0.9 and (ways == 1).mean() > 0.85
    assert min(widths.min(), heights.min()) >= 250
    assert max(widths.max(), heights.max()) <= 700
    assert 0.4 < (widths > heights).mean() < 0.9


def test_exif_turns_the_dog_upright(tmp_path):
    turned = (p for p in kennel.photo_list() if kennel.stored(p)[2] == 6)
    photo = next(turned)
    kennel.write(tmp_path, photo)
    with Image.open(tmp_path / photo.path) as file:
        assert file.getexif()[Base.Orientation] == 6
        upright = ImageOps.exif_transpose(file)
    image, _ = kennel.draw_one(photo.path)
    expected = image.transpose(Image.Transpose.ROTATE_270)
    assert max(ImageStat.Stat(ImageChops.difference(upright, expected)).mean) < 8


def test_vector_and_back():
    for coats in kennel.BREEDS.values():
        for dog in coats:
            vector = brush.as_vector(dog)
            assert vector.min() >= 0 and vector.max() <= 1
            again = brush.as_vector(brush.from_vector(vector))
            np.testing.assert_allclose(again, vector, atol=1e-12)


def test_look_alikes_are_the_nearest_pairs():
    def apart(pair):
        vectors = [[brush.as_vector(d) for d in kennel.BREEDS[name]] for name in pair]
        return min(np.linalg.norm(a - b) for a in vectors[0] for b in vectors[1])

    nearest = sorted(combinations(kennel.BREEDS, 2), key=apart)
    count = len(kennel.LOOK_ALIKES)
    assert set(nearest[:count]) == set(kennel.LOOK_ALIKES)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_species_draws(seed):
    rng = np.random.default_rng(seed)
    image, mask = brush.draw_photo(brush.sample_dog(rng), rng, size=(120, 90))
    assert image.size == mask.size == (120, 90) and image.mode == "RGB"
    assert (np.asarray(mask) > 0).mean() > 0.02


def test_one_thing_is_changed_and_the_rest_stays():
    dog, size, rng = kennel.BREEDS["Basset_hound"][0], (150, 120), np.random.default_rng

    def draw(dog=dog, seed=3, **given):
        image, mask = brush.draw_photo(dog, rng(seed), size, **given)
        return np.asarray(image).astype(int), np.asarray(mask)

    beach, there = draw(scene="beach")
    snow, also_there = draw(scene="snow")
    np.testing.assert_array_equal(there, also_there)
    off = np.abs(beach - snow).mean(2)
    assert off[there > 0].mean() < 0.2 * off[there == 0].mean()
    black, same_place = draw(replace(dog, coat=(60, 60, 60)), scene="beach")
    np.testing.assert_array_equal(there, same_place)
    pose = brush.sample_pose(rng(0))
    sits, stands = (draw(pose=pose._replace(sits=s), scene="beach") for s in (1, 0))
    assert (sits[1] != stands[1]).mean() > 0.02


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_corners_of_the_space_draw(value):
    dog = brush.from_vector(np.full(len(brush.as_vector(brush.Dog())), value))
    for seed in range(8):  # many poses
        brush.draw_photo(dog, np.random.default_rng(seed), size=(120, 90))


def test_a_sibling_lacks_what_the_dog_lacks():
    pug = kennel.BREEDS["Pug"][0]
    sibling = brush.vary(pug, np.random.default_rng(0))
    assert sibling != pug and sibling.spots == sibling.saddle == 0


# --- variations --------------------------------------------------------------------


def test_redrawn_with_no_change_it_is_the_photo_upright(folder):
    turned = next(p for p in kennel.photo_list() if kennel.stored(p)[2] == 8)
    grey = next(p for p in kennel.photo_list() if kennel.stored(p)[0].mode == "L")
    for photo in (*FEW[:3], turned, grey):
        image, mask, way = kennel.stored(photo)
        back = {1: None, 6: 4, 8: 2}[way]  # Image.Transpose.ROTATE_270 and _90
        if way != 1:
            image, mask = image.transpose(back), mask.transpose(back)
        again, its_mask = variations.redraw(folder / photo.path)
        assert again.tobytes() == image.convert("RGB").tobytes()
        assert its_mask.tobytes() == mask.tobytes()


def test_one_thing_of_a_photo_is_changed():
    path = FEW[0].path
    image, mask = variations.redraw(path)
    beach, same = variations.redraw(path, scene="beach")
    assert beach.tobytes() != image.tobytes() and same.tobytes() == mask.tobytes()
    mirrored, flipped = variations.redraw(path, mirrored=True)
    assert ImageOps.mirror(mirrored).tobytes() == image.tobytes()
    assert ImageOps.mirror(flipped).tobytes() == mask.tobytes()
    coat, _ = variations.redraw(path, coat="Dalmatian")
    assert coat.size == image.size and coat.tobytes() != image.tobytes()
    pose = brush.sample_pose(np.random.default_rng(1))
    assert variations.redraw(path, pose=pose)[1].tobytes() != mask.tobytes()
    assert variations.redraw(path, seed=1)[0].tobytes() != image.tobytes()


def test_cut_at_the_edge_a_share_of_the_dog_is_outside():
    _, whole = variations.redraw(FEW[0].path)
    part, seen = variations.redraw(FEW[0].path, cut=0.4)
    left, _, right, _ = whole.getbbox()
    assert part.size == seen.size and part.width == part.height
    assert seen.getbbox()[0] <= 2  # the dog goes on beyond the edge
    assert seen.getbbox()[2] <= 0.6 * (right - left) + 2


def test_a_dog_of_ones_own():
    one, mask = variations.draw_dog("Pug", leg=1.6, coat=(90.0, 60.0, 40.0))
    other, smaller = variations.draw_dog("Pug")
    assert one.size == mask.size == other.size and one.tobytes() != other.tobytes()
    boxes = [found.getbbox() for found in (mask, smaller)]
    tall, short = ((b[3] - b[1]) / (b[2] - b[0]) for b in boxes)
    assert tall > 1.2 * short


@pytest.mark.parametrize(
    "draw",
    [
        lambda: variations.redraw("test/004.Beagle/none.jpg"),
        lambda: variations.redraw(FEW[0].path, scene="moon"),
        lambda: variations.redraw(FEW[0].path, coat="Cat"),
        lambda: variations.draw_dog("Cat"),
        lambda: variations.draw_dog("Pug", wings=2),
    ],
)
def test_what_cannot_be_drawn_is_an_error_of_one_sentence(draw):
    with pytest.raises(dogtl.DogtlError) as error:
        draw()
    assert "choose" in sentence(error) or "take" in sentence(error)


def test_the_examples_of_variations_run():
    result = doctest.testmod(variations, extraglobs={"dogtl": dogtl})
    assert result.attempted >= 4 and result.failed == 0
