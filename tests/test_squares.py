"""Squares are the centres of photos, each made once and again when it must be."""

import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from conftest import draw, files_of, kill_once, python, times_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import get_sampling

from dogtl.choices import Choice
from dogtl.modules import input_size
from dogtl.photos import PhotosError, read_photo
from dogtl.squares import make_square, square, square_jpeg, square_name

sides = st.integers(1, 90)
few = settings(max_examples=60, deadline=None)


def noise(width, height, seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def as_int(image) -> np.ndarray:
    return np.asarray(image).astype(int)


# --- one square --------------------------------------------------------------------


@given(sides, sides, sides)
@few
def test_a_square_is_square_and_of_the_size(width, height, size):
    made = make_square(noise(width, height), size)
    assert made.size == (size, size) and made.mode == "RGB"


@given(sides, sides)
@few
def test_the_centre_for_odd_and_even_sides(width, height):
    photo, size = noise(width, height), min(width, height)
    left, top = (width - size) // 2, (height - size) // 2
    right, bottom = width - size - left, height - size - top
    assert right - left in (0, 1) and bottom - top in (0, 1)
    centre = np.asarray(photo)[top : height - bottom, left : width - right]
    assert (np.asarray(make_square(photo, size)) == centre).all()


@given(sides, sides, sides, st.tuples(*[st.integers(0, 255)] * 3))
@few
def test_one_colour_stays_that_colour(width, height, size, colour):
    made = make_square(Image.new("RGB", (width, height), colour), size)
    assert (np.asarray(made) == colour).all()


@given(sides, sides, st.integers(8, 40))
@few
def test_it_is_a_crop_and_a_resize(width, height, size):
    photo = noise(width, height).point(lambda value: 90 + value // 4)  # clips nowhere
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crop = photo.crop((left, top, left + side, top + side))
    expected = crop.resize((size, size), Image.Resampling.LANCZOS)
    rim = 1 - (-3 * max(size, side) // side)  # where the filter sees beyond the crop
    inner = (slice(rim, size - rim),) * 2
    off = abs(as_int(make_square(photo, size))[inner] - as_int(expected)[inner])
    assert off.max(initial=0) <= 2


def test_downsampling_much_stays_close_to_the_plain_way():
    photo = draw(2, (900, 700), np.random.default_rng(0))
    plain = photo.crop((100, 0, 800, 700)).resize((32, 32), Image.Resampling.LANCZOS)
    off = abs(as_int(make_square(photo, 32)) - as_int(plain))
    assert off.mean() < 2 and off.max() < 24


def test_fine_patterns_blur_and_leave_no_coarse_ones():
    board = np.indices((400, 400)).sum(axis=0) % 2 * 255
    photo = Image.fromarray(np.repeat(board[..., None], 3, 2).astype(np.uint8))
    made = as_int(make_square(photo, 30))
    assert abs(made - 127.5).max() < 12


@given(sides, sides, sides)
@few
def test_a_mirrored_photo_gives_a_mirrored_square(width, height, size):
    width += (width - height) % 2  # nothing is cut off, or as much on either side
    size = max(size, min(width, height) // 5)  # not in two steps, which round
    photo = noise(width, height)
    mirrored = make_square(ImageOps.mirror(photo), size)
    off = abs(as_int(mirrored) - as_int(ImageOps.mirror(make_square(photo, size))))
    assert off.max() <= 2


@pytest.mark.parametrize("photo_size", [(500, 400), (64, 50), (20, 31)])
def test_a_square_is_a_jpeg_of_high_quality_and_full_colour(tmp_path, photo_size):
    path = tmp_path / "a.png"
    image = draw(2, photo_size, np.random.default_rng(1))
    image.save(path)
    with Image.open(io.BytesIO(square_jpeg(path, 48))) as made:
        assert made.format == "JPEG" and made.size == (48, 48)
        assert get_sampling(made) == 0  # 4:4:4
        tables, seen = made.quantization, as_int(made)
    reference = io.BytesIO()
    image.save(reference, "JPEG", quality=95)
    with Image.open(reference) as expected:
        assert tables == expected.quantization
    assert abs(seen - as_int(make_square(image, 48))).mean() < 5


def test_a_large_jpeg_decoded_smaller_gives_nearly_the_same_square(tmp_path):
    small = noise(32, 24).resize((1280, 960), Image.Resampling.BICUBIC)
    small.save(tmp_path / "a.jpg", quality=95)
    fast = read_photo(tmp_path / "a.jpg", short_side=2 * 64)
    assert fast.size != small.size
    full = make_square(read_photo(tmp_path / "a.jpg"), 64)
    assert abs(as_int(make_square(fast, 64)) - as_int(full)).mean() < 2


names = st.text(st.sampled_from(".jpegna "), min_size=1, max_size=9)


@given(st.sets(names.filter(lambda name: name.strip(".")), min_size=2, max_size=30))
@settings(max_examples=300)
def test_no_two_photos_share_a_square(photos):
    squares = {square_name(f"train/a/{name}") for name in photos}
    assert len(squares) == len(photos)
    assert all(name.endswith((".jpg", ".jpeg")) for name in squares)


def test_similar_names_have_squares_of_their_own():
    alike = ["a", "a.", "a..", "a.jpg", "a..jpg", "a.jpg.jpg", "a.jpeg", "a.png"]
    alike += ["a.JPG", "a.png.jpg", "a.jpeg.jpg", "a.jpg.part", ".jpg", "jpg"]
    assert len({square_name(f"t.jpg/b.x/{name}") for name in alike}) == len(alike)
    assert square_name("train/a/1.jpg") == "train/a/1.jpg"


# --- a folder of squares -----------------------------------------------------------


@pytest.fixture
def choice(mine, grid, tmp_path):
    return Choice(str(mine), str(grid), None, tmp_path / "home")


def said(caplog) -> str:
    text = "\n".join(record.getMessage() for record in caplog.records)
    caplog.clear()
    return text


def test_every_photo_has_its_square(chosen, photos):
    made = square(chosen)
    assert made.size == 32 and made.photos == photos
    paths = [path for split in made.paths.values() for path in split]
    on_disk = [str(f.relative_to(photos)) for f in photos.rglob("*") if f.is_file()]
    assert sorted(paths) == sorted(on_disk) and not any(made.left_out.values())
    for path in paths:
        assert made.square_of(path).read_bytes() == square_jpeg(photos / path, 32)
    assert len(files_of(made.folder)) == len(paths) + 1  # the journal
    assert "24 train, 12 valid, 15 test" in str(made)


def test_nothing_to_do(chosen, caplog):
    caplog.set_level("INFO")
    first = square(chosen)
    before = times_of(chosen.home)
    assert "nothing to do" not in said(caplog)
    assert square(chosen) == first and str(square(chosen)) == str(first)
    assert "squares: nothing to do" in said(caplog)
    assert times_of(chosen.home) == before


def redone(choice, made) -> set[str]:
    """Square again; the photos whose squares were written."""
    before = times_of(made.folder)
    again = square(choice)
    after = times_of(made.folder)
    paths = [path for split in again.paths.values() for path in split]
    names = {path: str(again.square_of(path)) for path in paths}
    expected = {path: square_jpeg(again.photos / path, again.size) for path in paths}
    assert all(again.square_of(p).read_bytes() == expected[p] for p in paths)
    assert len(files_of(made.folder)) == len(paths) + 1
    return {path for path in paths if before.get(names[path]) != after[names[path]]}


def test_only_changed_photos_are_squared_again(choice, mine):
    made = square(choice)
    by_time, by_size, broken = (mine / path for path in made.paths["train"][2:5])
    os.utime(by_time, ns=(1, by_time.stat().st_mtime_ns + 1))
    assert redone(choice, made) == {made.paths["train"][2]}
    stat = by_size.stat()
    by_size.write_bytes(by_size.read_bytes() + b"more")
    os.utime(by_size, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert redone(choice, made) == {made.paths["train"][3]}
    noise(50, 60).save(broken, "PNG")
    assert redone(choice, made) == {made.paths["train"][4]}
    assert redone(choice, made) == set()


def test_added_and_removed_photos(choice, mine):
    made = square(choice)
    gone, moved = made.paths["test"][:2]
    (mine / gone).unlink()
    (mine / moved).rename(mine / "test" / moved.split("/")[1] / "renamed.png")
    noise(40, 50).save(mine / "valid" / made.breeds[1] / "new.png")
    new = {f"valid/{made.breeds[1]}/new.png", f"test/{made.breeds[0]}/renamed.png"}
    assert redone(choice, made) == new
    assert not made.square_of(gone).exists() and not made.square_of(moved).exists()


def test_a_split_has_another_stamp_when_its_photos_change(choice, mine):
    made = square(choice)
    os.utime(mine / made.paths["test"][0], ns=(1, 1))
    again = square(choice)
    assert {s for s in made.stamps if made.stamps[s] != again.stamps[s]} == {"test"}


def test_a_deleted_or_unfinished_square(choice):
    made = square(choice)
    path = made.paths["valid"][0]
    made.square_of(path).unlink()
    part = made.square_of(path).with_name("dog_00.jpg.part")
    part.write_bytes(b"half")
    assert redone(choice, made) == {path}
    assert not part.exists()


@pytest.mark.parametrize("text", ["", "nonsense\n", '["train/a"', "\xff\n", "[]\n"])
def test_a_spoilt_journal_means_doing_it_again(choice, text):
    made = square(choice)
    journal = made.folder / "squares.jsonl"
    expected = files_of(made.folder)
    journal.write_bytes(text.encode("latin-1"))
    again = square(choice)
    assert again == made and files_of(made.folder) == expected


def test_two_sizes_and_two_folders_lie_apart(choice, colours, many):
    first = square(choice)
    before = files_of(choice.home / "squares")
    other = square(replace(choice, module=str(colours), size=20))
    third = square(replace(choice, photos=str(many)))
    assert len({first.folder, other.folder, third.folder}) == 3
    assert third.paths["valid"][0].startswith("validation/")
    with Image.open(other.square_of(other.paths["test"][0])) as image:
        assert image.size == (20, 20)
    after = files_of(choice.home / "squares")
    assert {name: after[name] for name in before} == before


# --- bad photos --------------------------------------------------------------------


@pytest.fixture
def bad(mine):
    """Two photos that cannot be read and a file in the wrong place."""
    paths = ["test/002.Grass_hound/bad.jpg", "train/001.Red_setter/bad name.png"]
    for path in paths:
        (mine / path).write_bytes(b"no image")
    (mine / "valid/notes.txt").write_text("notes")
    return [*paths, "valid/notes.txt"]


def test_bad_photos_are_named_and_left_out_every_time(choice, bad, caplog):
    caplog.set_level("INFO")
    for time in ("first", "second"):
        made = square(choice)
        left_out = {
            p: why for split in made.left_out.values() for p, why in split.items()
        }
        assert sorted(left_out) == sorted(bad) and all(left_out.values())
        assert not set(bad) & {path for split in made.paths.values() for path in split}
        text = said(caplog)
        assert [text.count(f"left out {path}: ") for path in bad] == [1, 1, 1]
        assert "3 photos left out" in text
        assert ("nothing to do" in text) == (time == "second")
        assert str(made).endswith("3 left out")


def test_a_bad_photo_that_was_mended_is_taken(choice, bad, mine):
    made = square(choice)
    noise(40, 40).save(mine / bad[0])
    again = square(choice)
    assert bad[0] in again.paths["test"] and bad[0] not in again.left_out["test"]
    assert again.stamps["test"] != made.stamps["test"]


def test_strict_stops_at_a_bad_photo_the_first_time_and_later(choice, bad):
    strict = replace(choice, strict=True)
    for _ in range(2):
        with pytest.raises(PhotosError, match=r"bad|notes") as caught:
            square(strict)
        assert "\n" not in str(caught.value)
    square(choice)
    with pytest.raises(PhotosError, match=r"bad|notes"):
        square(strict)


def test_strict_is_content_with_good_photos(choice):
    assert square(replace(choice, strict=True)) == square(choice)


def test_a_split_without_a_readable_photo(choice, mine):
    for file in (mine / "test").rglob("*.*"):
        if file.is_file():
            file.write_bytes(b"no image")
    with pytest.raises(PhotosError, match="no test photo that can be read"):
        square(choice)


def test_odd_names_of_files_have_squares(choice, mine):
    breed = mine / "train" / "001.Red_setter"
    odd = ["no_suffix", "two.dots.jpg", "a", "a.", "Ünï 犬.png", "tab\t\n.jpg"]
    odd.append(os.fsdecode(b"caf\xe9.jpg"))
    for name in odd:
        try:
            with open(breed / name, "wb") as out:
                noise(30, 40, len(name)).save(out, "PNG")
        except OSError:
            pytest.skip("this file system takes Unicode only")
    made = square(choice)
    assert {f"train/001.Red_setter/{name}" for name in odd} <= set(made.paths["train"])
    for path in made.paths["train"]:
        assert made.square_of(path).read_bytes() == square_jpeg(mine / path, 32)
    assert square(choice) == made


def test_a_name_that_is_too_long_for_a_square_is_left_out(choice, mine, caplog):
    name = "train/001.Red_setter/" + "x" * 251 + ".jpg"
    noise(30, 40, 1).save(mine / name)
    made = square(choice)
    assert made.left_out["train"].keys() == {name} and name in caplog.text
    assert square(choice) == made and name not in made.paths["train"]


# --- killed in the middle ----------------------------------------------------------

SQUARE = """
import sys
from pathlib import Path
from dogtl import choose, square
square(choose(sys.argv[1], sys.argv[2], home=sys.argv[3]))
"""


def test_killed_and_run_again(tmp_path, grid):
    large, rng = tmp_path / "large", np.random.default_rng(0)
    for breed in range(2):
        draw(breed, (1300, 900), rng).save(tmp_path / f"{breed}.png", compress_level=1)
    for split, number in (("train", 20), ("valid", 4), ("test", 6)):
        for breed in range(2):
            home = large / split / f"breed_{breed}"
            home.mkdir(parents=True)
            for i in range(number):
                (home / f"{i:03}.png").hardlink_to(tmp_path / f"{breed}.png")
    choice = Choice(str(large), str(grid), None, tmp_path / "killed")
    input_size(choice)  # noted, so that the other process needs no TensorFlow
    folder = choice.folder("squares", 32, module=False)
    journal = folder / "squares.jsonl"

    def lines():
        return journal.read_text().splitlines() if journal.exists() else []

    process = python(SQUARE, large, grid, choice.home)
    kill_once(process, lambda: len(lines()) >= 6)
    finished = journal.read_text().split("\n")[:-1]
    assert 6 <= len(finished) < 60
    finished = {str(folder / square_name(json.loads(line)[0])) for line in finished}
    before = times_of(folder)
    made = square(choice)
    after = times_of(folder)
    assert {name: before[name] for name in finished} == {
        name: after[name] for name in finished
    }
    undisturbed = replace(choice, home=tmp_path / "undisturbed")
    square(undisturbed)
    assert files_of(choice.home) == files_of(undisturbed.home)
    assert sum(map(len, made.paths.values())) == 60
