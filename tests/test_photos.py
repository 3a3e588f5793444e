"""Any photo is read as upright RGB or refused with a reason; folders are listed."""

import errno
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import sentence as sentence_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

import dogtl
from dogtl.photos import LAYOUTS, SPLITS

ORIENTATION = 274
RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY = RGB[..., 0]
SMOOTH = np.kron(RGB[::3, ::3], np.ones((32, 32, 1), np.uint8))  # survives a JPEG


def encode(kind, image=RGB, **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, depth, kind, rows=b"") -> bytes:
    """A PNG put together by hand, for what Pillow doesn't write."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def stack(grey) -> np.ndarray:
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


# --- every kind of image -------------------------------------------------------------


def kinds():
    """Yield images of every kind: a name, the file's bytes, the pixels, a tolerance."""
    for kind in ("PNG", "BMP", "PPM", "TIFF", "TGA", "JPEG2000"):
        yield kind, encode(kind), RGB, 0
    yield "WebP", encode("WEBP", lossless=True), RGB, 0
    fine = {"quality": 100, "subsampling": "4:4:4"}
    if features.check("avif"):
        yield "AVIF", encode("AVIF", SMOOTH, **fine), SMOOTH, 9
    more = {"progressive": True, "comment": b"mine", "dpi": (300, 300)}
    yield "JPEG", encode("JPEG", SMOOTH, **more, **fine), SMOOTH, 9
    for kind in ("GIF", "TIFF", "PNG", "WEBP", "MPO"):
        red, blue = (Image.new("RGB", (8, 6), name) for name in ("red", "blue"))
        frames = encode(kind, red, save_all=True, append_images=[blue])
        yield f"two frames {kind}", frames, np.full((6, 8, 3), (255, 0, 0)), 3

    palette, bits = Image.fromarray(RGB).quantize(4), Image.fromarray(GREY).convert("1")
    colours, index = np.asarray(palette.convert("RGB")), np.asarray(palette)[..., None]
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        yield f"grey {kind}", encode(kind, GREY), stack(GREY), 0
        yield f"bits {kind}", encode(kind, bits), stack(np.asarray(bits) * 255), 0
        yield f"palette {kind}", encode(kind, palette), colours, 0
    for kind in ("PNG", "TIFF"):
        deep = encode(kind, GREY.astype(np.uint16) * 257)
        yield f"16-bit grey {kind}", deep, stack(GREY), 0
        cmyk = encode(
            kind.replace("PNG", "JPEG"), Image.fromarray(SMOOTH).convert("CMYK")
        )
        yield f"CMYK {kind}", cmyk, SMOOTH, 25
    dark = encode("PNG", np.full((4, 4), 2570, np.uint16))
    yield "16-bit grey that's dark", dark, np.full((4, 4, 3), 10), 0
    rows = b"".join(b"\0" + row.tobytes() for row in RGB.astype(">u2") * 257)
    yield "16-bit RGB", png(12, 9, 16, 2, rows), RGB, 0

    alpha = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
    share = alpha[..., None] / 255
    for mode in ("RGBA", "LA"):
        image = Image.fromarray(RGB).convert(mode[:-1])
        expected = np.asarray(image.convert("RGB")) * share + 255 * (1 - share)
        image.putalpha(Image.fromarray(alpha))
        for kind in ("PNG", "TIFF"):
            yield f"{mode} {kind}", encode(kind, image), expected, 1
    for kind in ("PNG", "GIF"):
        seen = encode(kind, palette, transparency=2)
        yield (
            f"a transparent palette {kind}",
            seen,
            np.where(index == 2, 255, colours),
            0,
        )
    seen = encode("PNG", palette, transparency=bytes([255, 0, 51, 255]))
    alphas = np.array([1, 0, 0.2, 1])[index]
    yield "palette with alphas", seen, colours * alphas + 255 * (1 - alphas), 1
    seen = encode("PNG", transparency=tuple(map(int, RGB[2, 3])))
    white = np.where((RGB[2, 3] == RGB).all(axis=2, keepdims=True), 255, RGB)
    yield "RGB with a transparent colour", seen, white, 0
    seen = encode("PNG", GREY, transparency=int(GREY[2, 3]))
    white = stack(np.where(GREY[2, 3] == GREY, 255, GREY))
    yield "grey with a transparent one", seen, white, 0


KINDS = {name: image for name, *image in kinds()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_rgb(tmp_path, kind):
    data, expected, off = KINDS[kind]
    (tmp_path / "photo.jpg").write_bytes(data)  # whatever the suffix says
    image = dogtl.read_photo(tmp_path / "photo.jpg")
    assert image.mode == "RGB" and image.info == {}  # its comment would stay in squares
    np.testing.assert_allclose(np.asarray(image).astype(int), expected, atol=off)


def exif(way) -> Image.Exif:
    made = Image.Exif()
    made.update({ORIENTATION: way, 271: "a maker", 282: 72.0})
    return made


# How each orientation stores an image, from what EXIF says of row and column 0.
TURNED = RGB.transpose(1, 0, 2)
STORED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: TURNED,
    6: TURNED[::-1],
    7: TURNED[::-1, ::-1],
    8: TURNED[:, ::-1],
}


@pytest.mark.parametrize("way", STORED)
def test_every_orientation_is_upright(tmp_path, way):
    path, stored = tmp_path / "photo", STORED[way]
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        path.write_bytes(encode(kind, stored.copy(), exif=exif(way), **options))
        assert (np.asarray(dogtl.read_photo(path)) == RGB).all()
    large = np.kron(stored, np.ones((64, 64, 1), np.uint8))
    path.write_bytes(encode("JPEG", large, exif=exif(way), quality=98))
    for short_side, zoom in ((None, 64), (9 * 8, 8)):  # a JPEG may be decoded smaller
        image = dogtl.read_photo(path, short_side)
        assert image.size == (12 * zoom, 9 * zoom)
        middle = np.asarray(image)[zoom // 2 :: zoom, zoom // 2 :: zoom]
        np.testing.assert_allclose(middle.astype(int), RGB, atol=8)


def test_a_jpeg_is_decoded_no_smaller_than_asked():
    for width, height in ((300, 200), (64, 300), (20, 20)):
        Image.new("RGB", (width, height)).save("photo.jpg")
        for short_side in range(1, 400, 7):
            image = dogtl.read_photo("photo.jpg", short_side)
            assert min(short_side, width, height) <= min(image.size)


WITH_EXIF = encode("JPEG", exif=exif(6))
START = WITH_EXIF.find(b"Exif")
END = START + int.from_bytes(WITH_EXIF[START - 2 : START], "big") - 2
changes = st.tuples(st.integers(START, END - 1), st.integers(0, 255))


@given(st.lists(changes, min_size=1))
@settings(max_examples=150, deadline=None)
def test_broken_exif_data_spoil_no_photo(changes):
    broken = bytearray(WITH_EXIF)
    for place, byte in changes:
        broken[place] = byte
    Path("photo.jpg").write_bytes(broken)
    with warnings.catch_warnings(action="ignore"):
        image = dogtl.read_photo("photo.jpg")
    assert image.mode == "RGB" and sorted(image.size) == [9, 12]


# --- what is no image ----------------------------------------------------------------

BAD = {
    "nothing": b"",
    "one byte": b"\x89",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "noise": np.random.default_rng(5).bytes(5000),
    "zeros": bytes(5000),
    "a header alone": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "a program for Ghostscript": encode("EPS"),
    "cut png": encode("PNG")[:-150],
    "cut gif": encode("GIF")[:-60],
    "cut tiff": encode("TIFF")[:-200],
    "cut webp": encode("WEBP", lossless=True)[:-150],
    "cut jpeg": encode("JPEG", np.tile(RGB, (20, 20, 1)))[:2000],
    "a bomb": png(60_000, 60_000, 8, 2),
    "no size": png(0, 0, 8, 2),
}


@pytest.mark.parametrize("name", BAD)
def test_bytes_that_are_no_image_are_refused_with_a_reason(tmp_path, name):
    (tmp_path / "photo.jpg").write_bytes(BAD[name])
    with pytest.raises(dogtl.UnreadablePhoto) as caught:
        dogtl.read_photo(tmp_path / "photo.jpg")
    reason = str(caught.value)
    assert reason and not {"\n", "<"} & set(reason)
    if name == "a program for Ghostscript":  # which nobody looked for
        assert reason == "cannot identify image file"


def test_what_cannot_be_opened_is_another_error(tmp_path):
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(2**43)  # more than any memory
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in (
        ("none.jpg", errno.ENOENT),
        (".", errno.EINVAL),
        ("pipe.jpg", errno.EINVAL),  # reading it would never end
        ("sparse.jpg", errno.ENOMEM),
    ):
        with pytest.raises(OSError) as caught:
            dogtl.read_photo(tmp_path / name)
        assert caught.value.errno == reason and caught.value.strerror


def test_memory_that_runs_out_while_decoding_is_not_the_photo_s_fault(monkeypatch):
    Path("photo.png").write_bytes(encode("PNG"))

    def fail(image):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(OSError, match="memory"):
        dogtl.read_photo("photo.png")


FEW_PIXELS = (Image, "MAX_IMAGE_PIXELS", 10**6)  # spares the memory


@given(st.sampled_from(list(KINDS)), st.data())
@settings(max_examples=250, deadline=None)
def test_a_damaged_file_is_an_image_or_unreadable(kind, data):
    damaged = bytearray(KINDS[kind][0])
    last = len(damaged) - 1
    place = st.integers(0, last) | st.integers(0, min(last, 64))
    for where, byte in data.draw(st.lists(st.tuples(place, st.integers(0, 255)))):
        damaged[where] = byte
    cut = data.draw(st.just(last + 1) | st.integers(0, last))
    Path("photo").write_bytes(damaged[:cut])
    with warnings.catch_warnings(action="ignore"), mock.patch.object(*FEW_PIXELS):
        try:
            image = dogtl.read_photo("photo")
        except dogtl.UnreadablePhoto as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8


# --- the listing ---------------------------------------------------------------------

USUAL = ("train/a/1.jpg", "train/b/1.jpg", "valid/a/1.jpg", "test/b/1.jpg")


def lay_out(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    return folder


def names(by_split, folder) -> dict[str, list[str]]:
    """What a listing holds of each split, as text relative to the folder."""
    return {
        split: [str(path.relative_to(folder)) for path in paths]
        for split, paths in by_split.items()
    }


@pytest.mark.parametrize("valid", ["valid", "validation", "val"])
def test_photos_are_listed_in_order_with_their_labels(tmp_path, valid):
    lay_out(tmp_path, *USUAL, "train/b/10.jpg", "train/b/9.jpg", "train/a/Z.jpg")
    (tmp_path / "valid").rename(tmp_path / valid)
    photos = dogtl.load_photos(tmp_path)
    assert photos.name == str(tmp_path) and photos.folder == tmp_path
    assert photos.breeds == ["a", "b"]
    b = ("train/b/1.jpg", "train/b/10.jpg", "train/b/9.jpg")
    assert names(photos.paths, tmp_path) == {
        "train": ["train/a/1.jpg", "train/a/Z.jpg", *b],
        "valid": [f"{valid}/a/1.jpg"],
        "test": ["test/b/1.jpg"],
    }
    labels = {split: labels.tolist() for split, labels in photos.labels.items()}
    assert labels == {"train": [0, 0, 1, 1, 1], "valid": [0], "test": [1]}
    assert {labels.dtype for labels in photos.labels.values()} == {np.dtype(np.int64)}
    assert photos.skipped == {"train": {}, "valid": {}, "test": {}}


def test_hidden_files_are_passed_over_and_strays_skipped(tmp_path):
    hidden = ("train/.DS_Store", "train/a/.hidden.jpg", "train/.git/x", "test/.x/1.jpg")
    strays = ("train/notes.txt", "test/b/deeper/1.jpg")
    lay_out(tmp_path, *USUAL, *hidden, *strays, "README.txt", "other/a/1.jpg")
    (tmp_path / "valid/a/gone.jpg").symlink_to(tmp_path / "nowhere")
    for loop in ("valid/a/loop.jpg", "train/loop"):
        (tmp_path / loop).symlink_to(tmp_path / loop)
    os.mkfifo(tmp_path / "test/b/pipe")  # opening it would wait for ever
    photos = dogtl.load_photos(tmp_path)
    assert sorted(sum(names(photos.paths, tmp_path).values(), [])) == sorted(USUAL)
    assert names(photos.skipped, tmp_path) == {
        "train": ["train/loop", "train/notes.txt"],
        "valid": ["valid/a/gone.jpg", "valid/a/loop.jpg"],
        "test": ["test/b/deeper", "test/b/pipe"],
    }
    assert all(why for split in photos.skipped.values() for why in split.values())
    assert repr(photos) == "2 train, 1 valid, 1 test photo, 2 breeds, 6 skipped"


def test_links_and_odd_names_are_photos_too(tmp_path):
    odd = ["valid/Ünï 犬/a b\tc\n'\"$x$.jpg", os.fsdecode(b"train/a/caf\xe9.jpg")]
    try:
        lay_out(tmp_path, *USUAL, "train/Ünï 犬/ .jpg", *odd, "elsewhere/c/1.jpg")
    except OSError:
        pytest.skip("this file system takes Unicode only")
    (tmp_path / "train/a/2.jpg").symlink_to(tmp_path / "elsewhere/c/1.jpg")
    (tmp_path / "train/c").symlink_to(tmp_path / "elsewhere/c")
    photos = dogtl.load_photos(tmp_path)
    assert photos.breeds == ["a", "b", "c", "Ünï 犬"]
    listed = sum(names(photos.paths, tmp_path).values(), [])
    assert {"train/a/2.jpg", "train/c/1.jpg", *odd} <= set(listed)


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (USUAL[:3], "no usable test photo of a: "),  # too few to cut
        (("train", *USUAL[2:]), "there is no .*/train: "),
        (USUAL[2:], "there is no .*/train: "),
        ((*USUAL, "val/a/1.jpg"), "/val is one valid too many: "),
        ((*USUAL, "test/c/1.jpg"), "train lacks c, a breed in test of .*: "),
        ((*USUAL[:1], *USUAL[2:]), r" holds 1 breed\(s\) to train, and needs two: "),
        (("train/note.txt", *USUAL[2:]), r" holds 0 breed\(s\) to train, "),
        (("1.jpg", "2.jpg"), r" holds 0 breed\(s\) to train, "),
        (("a/deep/1.jpg", "b/deep/1.jpg"), "no usable train photo of a: "),
        ((*USUAL[:3], "test/b/.hidden"), "no usable test photo of a: "),
        ((*USUAL[:3], "test/stray.jpg"), "no usable test photo of a: "),
        (
            (*USUAL, "train/aa/.hidden", "train/d/1.jpg"),
            "no usable train photo of aa: ",
        ),
    ],
)
def test_a_folder_that_makes_no_sense_gives_one_sentence(tmp_path, paths, sentence):
    with pytest.raises(dogtl.DogtlError, match=sentence) as caught:
        dogtl.load_photos(lay_out(tmp_path, *paths))
    assert str(tmp_path) in sentence_of(caught) and LAYOUTS in sentence_of(caught)


def fill(folder, photos) -> Path:
    """Files by their paths, each with its content."""
    for path, content in photos.items():
        lay_out(folder, path)
        (folder / path).write_text(content)
    return folder


MANY = {f"{breed}/{i:03}.jpg": f"{breed}{i}" for breed in "ab" for i in range(40)}


@pytest.mark.parametrize(
    ("there", "counts"),
    [
        ((), (56, 12, 12)),
        (("train",), (56, 12, 12)),
        (("train", "val"), (66, 80, 14)),
        (("train", "test"), (66, 14, 80)),
    ],
)
def test_what_is_missing_is_cut_from_train(tmp_path, caplog, home, there, counts):
    for split in there or ("",):
        fill(tmp_path / "mine" / split, MANY)
    photos = dogtl.load_photos("./mine")
    assert tuple(map(len, photos.paths.values())) == counts
    (said,) = caplog.messages
    missing = {"train": "valid and test", "val": "test", "test": "valid"}
    assert f"{missing[(there or ['train'])[-1]]} cut from {tmp_path / 'mine'}" in said
    for split, paths in photos.paths.items():
        labels = [photos.breeds.index(path.parent.name) for path in paths]
        assert photos.labels[split].tolist() == labels and paths == sorted(paths)
        assert labels.count(0) == labels.count(1)
    (tmp_path / "mine").rename(tmp_path / "moved")  # nor does the order of files count
    again = dogtl.load_photos("./moved")
    assert names(again.paths, tmp_path / "moved") == names(photos.paths, photos.folder)


def test_equal_photos_stay_together_and_unreadable_ones_count(tmp_path, monkeypatch):
    same = {f"{breed}/{i}-again.jpg": f"a{i}" for breed in "ab" for i in range(40)}
    fill(tmp_path / "mine", MANY | same | {"c/1.jpg": "one", "c/2.jpg": "two"})
    os.mkfifo(tmp_path / "mine/c/pipe")
    (tmp_path / "mine/notes.txt").write_text("a stray")
    photos = dogtl.load_photos("./mine")
    contents = {split: {p.read_text() for p in photos.paths[split]} for split in SPLITS}
    assert (
        sum(map(len, contents.values())) == 82 == len(set().union(*contents.values()))
    )
    assert {path.name for path in photos.skipped["train"]} == {"notes.txt", "pipe"}
    assert {path.parent.name for path in photos.paths["test"]} == {
        "a",
        "b",
    }  # c is small
    read = dogtl.store.fingerprint_file

    def refuse(path):  # instead of chmod, which doesn't stop root
        if path.name == "007.jpg":
            raise PermissionError(13, "Permission denied")
        return read(path)

    (tmp_path / "mine/b/007.jpg").touch()
    monkeypatch.setattr(dogtl.store, "fingerprint_file", refuse)
    again = dogtl.load_photos("./mine")
    assert sum(map(len, again.paths.values())) == 162


def test_contents_are_hashed_once_and_only_to_cut(tmp_path, home, monkeypatch):
    fill(tmp_path / "mine", MANY)
    lay_out(tmp_path / "whole", *USUAL)
    dogtl.load_photos("./whole")
    assert not home.exists()
    first = dogtl.load_photos("./mine")
    (file,) = home.rglob("*.npz")
    intact = file.read_bytes()
    file.write_bytes(intact[:-50])
    assert dogtl.load_photos("./mine").paths == first.paths
    assert file.read_bytes() == intact
    monkeypatch.setattr(dogtl.store, "fingerprint_file", None)
    assert dogtl.load_photos("./mine").paths == first.paths


def write(path, text) -> Path:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(path)


def test_photos_from_a_csv_file(tmp_path, caplog):
    lines = ("z/2.jpg, b ,", "/else/1.jpg,a,train", "z/../1.jpg,a,val", "2.jpg,b,test")
    file = write("lists/mine.csv", "\ufeffPath, Breed,split\r\n" + "\r\n".join(lines))
    for chosen in (file, "./lists/mine.csv"):
        photos = dogtl.load_photos(chosen)
        folder = tmp_path / "lists"
        assert (photos.name, photos.folder) == (str(tmp_path / file), folder)
        train = [Path("/else/1.jpg"), folder / "z/2.jpg"]
        assert list(photos.paths.values()) == [
            train,
            [folder / "1.jpg"],
            [folder / "2.jpg"],
        ]
        assert [*map(list, photos.labels.values())] == [[0, 1], [0], [1]]
    assert caplog.messages[0] == "all valid photos are of a: add others"
    os.chdir("lists")
    assert dogtl.load_photos("mine.csv").paths == photos.paths


def test_a_cut_can_be_written_and_read_again(tmp_path, caplog):
    odd = [b"a/caf\xe9.jpg", b'a/ "x",\ny.jpg', "a/Ünï 犬.jpg".encode()]
    try:
        fill(tmp_path / "mine", MANY | {os.fsdecode(path): str(path) for path in odd})
    except OSError:
        pytest.skip("this file system takes Unicode only")
    photos = dogtl.load_photos("./mine")
    dogtl.photos.write_splits(photos, Path("deep/er/cut.csv"))
    caplog.clear()
    again = dogtl.load_photos("./deep/er/cut.csv")
    assert again.paths == photos.paths and again.breeds == photos.breeds
    assert not caplog.messages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path,breed\n",
        "path,breed\n1.jpg,a\n",
        "path;breed\n1.jpg;a\n2.jpg;b\n",
        "1.jpg,a\n2.jpg,b\n",
        "path,breed\n1.jpg,a\n2.jpg\n",
        "path,breed\n1.jpg,a\n2.jpg, \n",
        "path,breed,split\n1.jpg,a,train\n2.jpg,b,holdout\n",
        "path,breed,split\n1.jpg,a,test\n2.jpg,b,test\n",
        "path,breed,split\n1.jpg,a,\n2.jpg,b,\n3.jpg,c,test\n",
        "path,breed\n" + "x" * 200_000 + ",a\n",
        b"path,breed\n" + bytes(99),
        encode("PNG"),
    ],
)
def test_a_csv_file_that_makes_no_sense_gives_one_sentence(text):
    with pytest.raises(dogtl.DogtlError) as caught:
        dogtl.load_photos(write("lists/mine.csv", text))
    said = sentence_of(caught)
    assert "/lists" in said and LAYOUTS in said


def test_no_folder_and_no_known_word(tmp_path):
    for chosen in ("./none", "none.csv", "s3://bucket/dogs"):
        with pytest.raises(dogtl.DogtlError, match="there is no .*(none|dogs)"):
            dogtl.load_photos(chosen)
    with pytest.raises(dogtl.DogtlError, match=r"'puppies' isn't .* \(./puppies\)"):
        dogtl.load_photos("puppies")


def test_photos_are_chosen_by_argument_variable_and_kind(tmp_path, monkeypatch):
    for name in ("given", "variable", "dogs"):
        lay_out(tmp_path / name, *USUAL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOGTL_PHOTOS", "./variable")
    monkeypatch.setenv("DOGTL_DOGS_URL", str(tmp_path / "dogs"))
    for chosen, folder, name in (
        (None, "variable", None),
        ("", "variable", None),
        ("./given", "given", None),
        ("~/given", "given", None),
        (Path("given"), "given", None),  # a Path is a path, without a / too
        ("dogs", "dogs", "dogs"),
    ):
        photos = dogtl.load_photos(chosen)
        assert photos.folder == tmp_path / folder
        assert photos.name == (name or str(tmp_path / folder))
