"""Any photo becomes upright RGB or is left out with a reason; folders are listed."""

import io
import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from dogtl.choices import Choice
from dogtl.photos import (
    PhotosError,
    UnreadablePhoto,
    find_photos,
    list_photos,
    read_photo,
)

ORIENTATION = 274
RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def pixels(path) -> np.ndarray:
    image = read_photo(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def stacked(grey) -> np.ndarray:
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def saved(path, image, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def png(width, height, depth, kind, rows=b"") -> bytes:
    """A PNG put together by hand, for what Pillow does not write."""

    def chunk(name, data):
        checked = name + data
        size, check = (
            struct.pack(">I", len(data)),
            struct.pack(">I", zlib.crc32(checked)),
        )
        return size + checked + check

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


# --- modes -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp", "jp2", "tga"])
def test_rgb_is_kept(tmp_path, suffix):
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("this Pillow reads no WebP")
    if suffix == "jp2" and not features.check("jpg_2000"):
        pytest.skip("this Pillow reads no JPEG 2000")
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", RGB, **options)
    assert (pixels(path) == RGB).all()


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
def test_grey_and_bilevel(tmp_path, suffix):
    assert (pixels(saved(tmp_path / f"g.{suffix}", GREY)) == stacked(GREY)).all()
    bits = Image.fromarray(GREY).convert("1")
    expected = stacked(np.asarray(bits) * np.uint8(255))
    assert (pixels(saved(tmp_path / f"b.{suffix}", bits)) == expected).all()


def test_a_palette(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    for suffix in ("png", "gif", "bmp", "tif"):
        path = saved(tmp_path / f"p.{suffix}", image)
        assert (pixels(path) == np.asarray(image.convert("RGB"))).all()


def test_the_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.fromarray(RGB).quantize(4)
    expected = np.asarray(image.convert("RGB")).copy()
    expected[np.asarray(image) == 2] = 255
    for suffix in ("png", "gif"):
        path = saved(tmp_path / f"p.{suffix}", image, transparency=2)
        assert (pixels(path) == expected).all()


def test_a_palette_with_alphas(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([100, 50, 0] * 3)
    image.putdata([0, 1, 2])
    path = saved(tmp_path / "p.png", image, transparency=bytes([255, 0, 51]))
    half = [round(c * 0.2 + 255 * 0.8) for c in (100, 50, 0)]
    expected = np.array([[(100, 50, 0), (255, 255, 255), half]])
    np.testing.assert_allclose(pixels(path), expected, atol=1)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha_is_laid_on_white(tmp_path, mode, suffix):
    alpha = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
    image = Image.fromarray(RGB).convert(mode[:-1])
    colours = np.asarray(image.convert("RGB"))
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    share = alpha[..., None] / 255
    expected = colours * share + 255 * (1 - share)
    seen = pixels(saved(tmp_path / f"a.{suffix}", image))
    np.testing.assert_allclose(seen, expected, atol=1)
    assert (seen[0, 0] == 255).all()


def test_the_transparent_colour_of_rgb_and_grey_is_white(tmp_path):
    path = saved(tmp_path / "rgb.png", RGB, transparency=tuple(map(int, RGB[2, 3])))
    expected = RGB.copy()
    expected[2, 3] = 255
    assert (pixels(path) == expected).all()
    path = saved(tmp_path / "grey.png", GREY, transparency=int(GREY[2, 3]))
    expected = np.where(GREY[2, 3] == GREY, 255, GREY)
    assert (pixels(path) == stacked(expected)).all()


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    colours = np.array([[255, 0, 0], [0, 255, 0], [20, 20, 20], [255, 255, 255]])
    blocks = np.repeat(np.repeat(colours[None].astype(np.uint8), 16, 0), 16, 1)
    image = Image.fromarray(blocks).convert("CMYK")
    options = {"quality": 95} if suffix == "jpg" else {}
    seen = pixels(saved(tmp_path / f"c.{suffix}", image, **options))
    np.testing.assert_allclose(seen[8, 8::16].astype(int), colours, atol=12)


def test_16_bit_grey_is_scaled(tmp_path):
    for suffix in ("png", "tif"):
        deep = GREY.astype(np.uint16) * 257
        path = saved(tmp_path / f"deep.{suffix}", deep)
        with Image.open(path) as image:
            assert image.mode.startswith("I")
        assert (pixels(path) == stacked(GREY)).all()


def test_dark_16_bit_grey_stays_dark(tmp_path):
    path = saved(tmp_path / "dark.png", np.full((4, 4), 2570, np.uint16))
    assert (pixels(path) == 10).all()


def test_16_bit_rgb(tmp_path):
    deep = RGB.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in deep.astype(">u2"))
    (tmp_path / "deep.png").write_bytes(png(12, 9, 16, 2, rows))
    assert (pixels(tmp_path / "deep.png") == RGB).all()


@pytest.mark.parametrize("top", [65535, 1_000_000])
def test_32_bit_grey(tmp_path, top):
    deep = np.linspace(0, top, 40).astype(np.int32).reshape(5, 8)
    expected = deep * 255 / top
    seen = pixels(saved(tmp_path / "deep.tif", deep))
    np.testing.assert_allclose(seen, stacked(expected), atol=0.51)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_float_grey(tmp_path, top):
    values = np.linspace(0, top, 40, dtype=np.float32).reshape(5, 8)
    seen = pixels(saved(tmp_path / "float.tif", values))
    np.testing.assert_allclose(seen, stacked(values / top * 255), atol=0.51)


def test_a_float_that_is_no_number_spoils_no_other(tmp_path):
    values = np.array([[0, 0.5, 1, np.nan, np.inf, -np.inf, -3]], np.float32)
    seen = pixels(saved(tmp_path / "float.tif", values))
    assert seen[0, :3, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_the_first_of_several_frames(tmp_path, suffix):
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("this Pillow reads no WebP")
    first, second = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    path = tmp_path / f"two.{suffix}"
    first.save(path, save_all=True, append_images=[second])
    with Image.open(path) as image:
        assert image.n_frames == 2
    np.testing.assert_allclose(pixels(path)[3, 4], (255, 0, 0), atol=3)


def test_the_suffix_says_nothing(tmp_path):
    saved(tmp_path / "a.png", RGB).rename(tmp_path / "a.jpg")
    assert (pixels(tmp_path / "a.jpg") == RGB).all()


def test_nothing_of_the_file_but_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(tmp_path / "a.jpg", RGB, exif=exif, comment=b"mine", dpi=(300, 300))
    assert read_photo(path).info == {}


# --- orientation -------------------------------------------------------------------

U = RGB  # upright; how it is stored says the EXIF standard: what row and column 0 are
STORED = {
    1: U,
    2: U[:, ::-1],
    3: U[::-1, ::-1],
    4: U[::-1],
    5: U.transpose(1, 0, 2),
    6: U.transpose(1, 0, 2)[::-1],
    7: U.transpose(1, 0, 2)[::-1, ::-1],
    8: U.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("way", STORED)
def test_every_orientation_is_upright(tmp_path, way, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = way
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", STORED[way].copy(), exif=exif, **options)
    assert (pixels(path) == U).all()


@pytest.mark.parametrize("way", STORED)
def test_a_jpeg_is_upright_at_any_scale(tmp_path, way):
    exif = Image.Exif()
    exif[ORIENTATION] = way
    large = np.kron(STORED[way], np.ones((64, 64, 1), np.uint8))
    path = saved(tmp_path / "a.jpg", large, exif=exif, quality=98)
    for short_side, zoom in ((None, 64), (9 * 8, 8)):
        image = read_photo(path, short_side)
        assert image.size == (12 * zoom, 9 * zoom)
        middle = np.asarray(image)[zoom // 2 :: zoom, zoom // 2 :: zoom]
        np.testing.assert_allclose(middle.astype(int), U, atol=8)


@given(st.integers(20, 300), st.integers(20, 300), st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_a_jpeg_is_decoded_no_smaller_than_asked(width, height, short_side):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    image = read_photo(file, short_side)
    assert min(image.size) >= min(short_side, width, height)
    assert image.size <= (width, height)


def jpeg_with_exif() -> tuple[bytes, int, int]:
    exif = Image.Exif()
    exif[ORIENTATION], exif[271], exif[282] = 6, "a maker", 72.0
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00", 0x829A: (1, 60)}
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", exif=exif)
    data = file.getvalue()
    start = data.find(b"Exif")
    return data, start, start + int.from_bytes(data[start - 2 : start], "big") - 2


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_broken_exif_spoils_no_photo(data):
    jpeg, start, end = jpeg_with_exif()
    broken = bytearray(jpeg)
    changes = st.tuples(st.integers(start, end - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(changes, min_size=1, max_size=8)):
        broken[place] = byte
    with warnings.catch_warnings(action="ignore"):
        image = read_photo(io.BytesIO(bytes(broken)))
    assert image.mode == "RGB" and sorted(image.size) == [9, 12]


def test_an_exif_tag_of_the_wrong_type_spoils_no_photo(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION], exif[282] = 6, 72.0
    path = saved(tmp_path / "a.jpg", RGB, exif=exif)
    resolution_as_text = struct.pack(">HHI", 282, 5, 1), struct.pack(">HHI", 282, 2, 1)
    data = path.read_bytes()
    little = [
        struct.pack("<HHI", *struct.unpack(">HHI", x)) for x in resolution_as_text
    ]
    broken = data.replace(*resolution_as_text).replace(*little)
    assert broken != data
    path.write_bytes(broken)
    with warnings.catch_warnings(action="ignore"):
        assert read_photo(path).size == (9, 12)  # turned all the same


# --- bad files ---------------------------------------------------------------------


def encoded(kind, image=RGB, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("dog.jpg", encoded("JPEG"))
    return file.getvalue()


BAD = {
    "empty.jpg": b"",
    "one_byte.png": b"\x89",
    "text.jpg": b"this is a dog\n" * 50,
    "html.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
    "noise.jpg": np.random.default_rng(5).bytes(5000),
    "zeros.jpg": bytes(5000),
    "header_only.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "archive.jpg": a_zip(),
    "truncated.png": encoded("PNG")[:-150],
    "truncated.gif": encoded("GIF")[:-60],
    "truncated.bmp": encoded("BMP")[:-30],
    "truncated.tif": encoded("TIFF")[:-200],
    "truncated.jpg": encoded("JPEG", np.tile(RGB, (20, 20, 1)))[:2000],
    "bomb.png": png(60_000, 60_000, 8, 2),
    "huge.png": png(2**31 - 1, 2**31 - 1, 8, 2),
    "empty.png": png(0, 0, 8, 2),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_unreadable(tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(UnreadablePhoto) as caught:
        read_photo(tmp_path / name)
    assert str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_unreadable(tmp_path):
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "none.jpg", tmp_path / "dangling.jpg"):
        with pytest.raises(UnreadablePhoto, match=r".+"):
            read_photo(path)


exif_turned = Image.Exif()
exif_turned[ORIENTATION] = 8
VALID = {
    "jpeg": encoded("JPEG", exif=exif_turned),
    "progressive": encoded("JPEG", progressive=True),
    "png": encoded("PNG"),
    "deep png": encoded("PNG", GREY.astype(np.uint16) * 257),
    "gif": encoded("GIF"),
    "tiff": encoded("TIFF"),
    "float tiff": encoded("TIFF", GREY.astype(np.float32) / 255),
    "bmp": encoded("BMP"),
}


@pytest.mark.parametrize("kind", VALID)
@given(data=st.data())
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_damaged_file_is_an_image_or_unreadable(kind, data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # spares the memory
    damaged = bytearray(VALID[kind])
    last = len(damaged) - 1
    place = st.integers(0, last) | st.integers(0, min(last, 64))
    changes = st.lists(st.tuples(place, st.integers(0, 255)), max_size=6)
    for where, byte in data.draw(changes):
        damaged[where] = byte
    cut = data.draw(st.just(last + 1) | st.integers(0, last))
    with warnings.catch_warnings(action="ignore"):
        try:
            image = read_photo(io.BytesIO(bytes(damaged[:cut])))
        except UnreadablePhoto as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8


# --- the listing -------------------------------------------------------------------


def lay_out(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    return folder


USUAL = ("train/a/1.jpg", "train/b/1.jpg", "valid/a/1.jpg", "test/b/1.jpg")


def test_photos_come_in_sorted_order_with_their_stamps(tmp_path):
    names = ["train/b/10.jpg", "train/b/9.jpg", "train/a/Z.jpg", "train/a/a.png"]
    lay_out(tmp_path, *USUAL, *names)
    found = list_photos(tmp_path)
    assert found.folder == tmp_path and found.breeds == ["a", "b"]
    assert list(found.stamps) == ["train", "valid", "test"]
    assert list(found.stamps["train"]) == [
        *("train/a/1.jpg", "train/a/Z.jpg", "train/a/a.png"),
        *("train/b/1.jpg", "train/b/10.jpg", "train/b/9.jpg"),
    ]
    stat = (tmp_path / "train/a/Z.jpg").stat()
    assert found.stamps["train"]["train/a/Z.jpg"] == (1, stat.st_mtime_ns)
    assert not any(found.left_out.values())


@pytest.mark.parametrize("name", ["valid", "validation", "val"])
def test_valid_has_three_names(tmp_path, name):
    lay_out(tmp_path, *USUAL)
    (tmp_path / "valid").rename(tmp_path / name)
    assert list(list_photos(tmp_path).stamps["valid"]) == [f"{name}/a/1.jpg"]


def test_hidden_files_are_passed_over_and_strays_left_out(tmp_path):
    hidden = ("train/.DS_Store", "train/a/.hidden.jpg", "train/.git/x", "test/.x/1.jpg")
    strays = ("train/notes.txt", "test/b/deeper/1.jpg")
    lay_out(tmp_path, *USUAL, *hidden, *strays, "README.txt", "other/a/1.jpg")
    (tmp_path / "valid/a/gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "valid/a/loop.jpg").symlink_to("loop.jpg")
    found = list_photos(tmp_path)
    assert found.breeds == ["a", "b"]
    assert sorted(p for split in found.stamps.values() for p in split) == sorted(USUAL)
    assert {split: list(paths) for split, paths in found.left_out.items()} == {
        "train": ["train/notes.txt"],
        "valid": ["valid/a/gone.jpg", "valid/a/loop.jpg"],
        "test": ["test/b/deeper"],
    }
    assert all(why for split in found.left_out.values() for why in split.values())


def test_a_linked_photo_and_a_linked_breed_are_photos(tmp_path):
    lay_out(tmp_path, *USUAL, "elsewhere/c/1.jpg")
    (tmp_path / "train/a/2.jpg").symlink_to(tmp_path / "elsewhere/c/1.jpg")
    (tmp_path / "train/c").symlink_to(tmp_path / "elsewhere/c")
    found = list_photos(tmp_path)
    assert found.breeds == ["a", "b", "c"]
    assert {"train/a/2.jpg", "train/c/1.jpg"} <= set(found.stamps["train"])


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (USUAL[:3], "test"),
        (USUAL[1:3], "test"),
        (USUAL[2:], "train"),
        ((*USUAL[:2], USUAL[3]), "valid or validation or val"),
        ((*USUAL, "val/a/1.jpg"), "more than one"),
        ((*USUAL, "test/c/1.jpg"), "c: add it to train"),
        ((*USUAL[:1], *USUAL[2:]), "at least two breeds"),
        (("train/note.txt", *USUAL[2:]), "at least two breeds"),
        ((*USUAL[:3], "test/b/.hidden"), "test holds no photos"),
        ((*USUAL[:3], "test/stray.jpg"), "test holds no photos"),
        ((*USUAL, "train/c/.hidden"), "c holds no photos"),
        (("train", *USUAL[2:]), "train"),
    ],
)
def test_a_folder_that_makes_no_sense(tmp_path, paths, named):
    with pytest.raises(PhotosError, match=named) as caught:
        list_photos(lay_out(tmp_path, *paths))
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path):
    lay_out(tmp_path, "file")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(PhotosError, match="there is no folder"):
            list_photos(path)


def test_an_unknown_word_lists_the_known_ones(tmp_path):
    with pytest.raises(PhotosError, match=r"'puppies'.* kennel "):
        find_photos(Choice("puppies", "toy", None, tmp_path))


def test_spaces_unicode_and_names_that_are_no_unicode(tmp_path):
    odd = "valid/Ünï cødé 犬/a b\tc\n'\"$x$.jpg"
    lay_out(tmp_path, *USUAL, "train/Ünï cødé 犬/ .jpg", odd)
    bad = os.fsdecode(b"train/a/caf\xe9.jpg")
    try:
        lay_out(tmp_path, bad)
    except OSError:
        pytest.skip("this file system takes Unicode only")
    found = list_photos(tmp_path)
    assert found.breeds == ["a", "b", "Ünï cødé 犬"]
    assert odd in found.stamps["valid"] and bad in found.stamps["train"]
