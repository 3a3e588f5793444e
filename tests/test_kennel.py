"""The kennel draws the same photos from the same seed, and its brush draws anything."""

import doctest
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from unittest import mock

import numpy as np
import pytest
from conftest import files_of, sentence, times_of
from PIL import Image, ImageChops, ImageOps, ImageStat
from PIL.ExifTags import Base

import dogtl
from dogtl.store import temporary_path
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


def test_streams_and_photos_differ_between_seeds():
    streams = {photo.stream for seed in (0, 1) for photo in kennel.photo_list(seed)}
    assert len(streams) == 2 * 840
    one, other = (kennel.draw_one(FEW[0].path, seed)[0] for seed in (0, 1))
    assert one.size != other.size or one.tobytes() != other.tobytes()


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


def test_a_drawing_that_was_killed_continues(folder, home, monkeypatch):
    monkeypatch.setattr(kennel, "photo_list", lambda seed=0: FEW)
    place = shutil.copytree(folder, home / "photos" / dogtl.toy.KENNEL)
    lost = [place / photo.path for photo in FEW[::3]]
    for path in lost:
        path.unlink()
        temporary_path(path).write_bytes(b"half")
    before = times_of(place)
    monkeypatch.setattr(kennel, "stored", mock.Mock(side_effect=kennel.stored))
    photos = dogtl.load_photos("kennel")
    assert kennel.stored.call_count == len(lost)
    assert photos.folder == place and photos.breeds == ["004.Beagle", "011.Pug"]
    assert photos.name == "kennel" and sum(map(len, photos.paths.values())) == len(FEW)
    whole = {".finished": str(len(FEW)).encode()} | files_of(folder)
    assert files_of(place) == whole
    drawn = times_of(home)
    new = {name for name, _ in drawn.items() - before.items()}
    assert new == {*map(str, lost), str(place / ".finished")}
    monkeypatch.setattr(kennel, "draw_kennel", None)  # it isn't called again
    assert dogtl.load_photos("kennel").paths == photos.paths
    assert times_of(home) == drawn


def test_a_finished_kennel_is_mended(folder, home, monkeypatch):
    monkeypatch.setattr(kennel, "photo_list", lambda seed=0: FEW)
    place = shutil.copytree(folder, home / "photos" / dogtl.toy.KENNEL)
    dogtl.load_photos("kennel")
    whole = files_of(place)
    (place / FEW[0].path).write_bytes(b"")
    (place / FEW[-1].path).unlink()
    dogtl.load_photos("kennel")
    assert files_of(place) == whole


KINDS = {  # the first photo of each: its mode, and its EXIF orientation
    "train/001.Afghan_hound/Afghan_hound_00001.jpg": ("RGB", 1),
    "train/001.Afghan_hound/Afghan_hound_00002.jpg": ("L", 1),
    "train/001.Afghan_hound/Afghan_hound_00013.jpg": ("RGB", 8),
    "train/001.Afghan_hound/Afghan_hound_00016.jpg": ("CMYK", 1),
    "train/006.Dachshund/Dachshund_00004.jpg": ("RGB", 6),
}


def test_a_photo_drawn_again_is_what_the_kennel_wrote(tmp_path):
    """As it's stored and upright."""
    for photo in (photo for photo in kennel.photo_list() if photo.path in KINDS):
        mode, way = KINDS[photo.path]
        kennel.write(tmp_path, photo)
        image, mask = kennel.draw_one(photo.path)
        with Image.open(tmp_path / photo.path) as file:
            assert (file.format, file.mode) == ("JPEG", mode)
            assert file.getexif().get(Base.Orientation, 1) == way
            assert file.size == image.size == mask.size
            off = ImageStat.Stat(ImageChops.difference(file, image)).mean
        assert max(off) < 8  # what the JPEG lost
        seen = np.asarray(mask)
        assert set(np.unique(seen)) == {0, 255} and 0.03 < (seen > 0).mean() < 0.8
        upright = []
        for drawn in (image, mask):
            drawn.getexif()[Base.Orientation] = way
            upright.append(ImageOps.exif_transpose(drawn))
        again, its_mask = variations.redraw(tmp_path / photo.path)
        assert again.tobytes() == upright[0].convert("RGB").tobytes()
        assert its_mask.tobytes() == upright[1].tobytes()
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


@pytest.mark.parametrize("corner", [None, 0.0, 1.0])
def test_any_species_draws(corner):
    """Random ones, and those at two corners of the space."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        dog = brush.sample_dog(rng)
        if corner is not None:
            dog = brush.from_vector(np.full(len(brush.as_vector(dog)), corner))
        image, mask = brush.draw_photo(dog, rng, size=(120, 90))
        assert image.size == mask.size == (120, 90) and image.mode == "RGB"
        assert (np.asarray(mask) > 0).mean() > 0.02


def test_a_sibling_lacks_what_the_dog_lacks():
    pug = kennel.BREEDS["Pug"][0]
    sibling = brush.vary(pug, np.random.default_rng(0))
    assert sibling != pug and sibling.spots == sibling.saddle == 0


# --- variations --------------------------------------------------------------------


def test_one_thing_of_a_photo_is_changed():
    path = FEW[0].path

    def draw(**change):
        image, mask = variations.redraw(path, **change)
        return np.asarray(image).astype(int), np.asarray(mask) > 0

    image, mask = draw()
    (beach, there), (snow, also_there) = draw(scene="beach"), draw(scene="snow")
    assert (mask == there).all() and (mask == also_there).all()
    off = np.abs(beach - snow).mean(2)
    assert off[mask].mean() < 0.2 * off[~mask].mean()
    mirrored, flipped = draw(mirrored=True)
    assert (mirrored[:, ::-1] == image).all() and (flipped[:, ::-1] == mask).all()
    coat, _ = draw(coat="Dalmatian")
    assert coat.shape == image.shape and (coat != image).any()
    pose = brush.sample_pose(np.random.default_rng(1))
    sits, stands = (draw(pose=pose._replace(sits=sits))[1] for sits in (1, 0))
    assert (sits != stands).mean() > 0.02
    other, _ = draw(seed=1)
    assert other.shape != image.shape or (other != image).any()


def test_cut_at_the_edge_a_share_of_the_dog_is_outside():
    _, whole = variations.redraw(FEW[0].path)
    part, seen = variations.redraw(FEW[0].path, cut=0.4)
    left, _, right, _ = whole.getbbox()
    assert part.size == seen.size and part.width == part.height
    assert seen.getbbox()[0] <= 2  # the dog goes on beyond the edge
    assert seen.getbbox()[2] <= 0.6 * (right - left) + 2


def test_a_dog_of_ones_own():
    dog, smaller = variations.draw_dog("Pug")
    brown, same = variations.draw_dog("Pug", coat=(90.0, 60.0, 40.0))
    assert brown.tobytes() != dog.tobytes() and same.tobytes() == smaller.tobytes()
    tall, mask = variations.draw_dog("Pug", leg=1.6)
    assert tall.size == mask.size == dog.size
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
