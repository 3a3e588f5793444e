"""Any photo is read as upright RGB or refused with a reason; folders are listed."""

import errno
import io
import os
import random
import re
import socket
import struct
import zlib
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import sentence as sentence_of
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile

import dogtl
from dogtl import store
from dogtl.photos import LAYOUTS, SPLITS

ORIENTATION = 274
RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY = RGB[..., 0]
FINE = {"quality": 100, "subsampling": "4:4:4"}
BEST = {"JPEG": FINE, "AVIF": FINE, "WEBP": {"lossless": True}}
SMOOTH = np.kron(RGB[::3, ::3], np.ones((32, 32, 1), np.uint8))  # survives a JPEG


def encode(kind, image=RGB, **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **(BEST.get(kind, {}) | options))
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
    for kind in ("PNG", "BMP", "PPM", "TIFF", "TGA", "JPEG2000", "WEBP"):
        yield kind, encode(kind), RGB, 0
    if features.check("avif"):
        yield "AVIF", encode("AVIF", SMOOTH), SMOOTH, 9
    more = {"progressive": True, "comment": b"mine", "dpi": (300, 300)}
    yield "JPEG", encode("JPEG", SMOOTH, **more), SMOOTH, 9
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
    for kind in ("PNG", "TIFF", "PPM"):
        deep = encode(kind, GREY.astype(np.uint16) * 257)
        yield f"16-bit grey {kind}", deep, stack(GREY), 0
    for kind in ("JPEG", "TIFF"):
        cmyk = Image.fromarray(SMOOTH).convert("CMYK")
        yield f"CMYK {kind}", encode(kind, cmyk), SMOOTH, 25
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
        seen, white = encode(kind, palette, transparency=2), index == 2
        yield f"a clear palette {kind}", seen, np.where(white, 255, colours), 0
    for width, height in ((1, 1), (1, 20_000), (20_000, 1)):
        thin = np.full((height, width, 3), 7, np.uint8)
        yield f"{width} x {height} pixels", encode("PNG", thin), thin, 0
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        broken = encode(kind, SMOOTH, icc_profile=b"no colour profile")
        yield f"a broken profile {kind}", broken, SMOOTH, 9
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
def test_every_kind_is_read_as_rgb(kind):
    data, expected, off = KINDS[kind]
    image = dogtl.read_photo(write("photo.jpg", data))  # whatever the suffix says
    assert image.mode == "RGB" and image.info == {}  # its comment would stay in squares
    np.testing.assert_allclose(np.asarray(image).astype(int), expected, atol=off)


def exif(way) -> Image.Exif:
    made = Image.Exif()
    made.update({ORIENTATION: way, 271: "a maker", 282: 72.0})
    return made


# How each orientation stores an image, from what EXIF says of row and column 0.
TURNED = RGB.transpose(1, 0, 2)
STORED = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1]}
STORED |= {5: TURNED, 6: TURNED[::-1], 7: TURNED[::-1, ::-1], 8: TURNED[:, ::-1]}


@pytest.mark.parametrize("way", STORED)
def test_every_orientation_is_upright(way):
    stored = STORED[way]
    for kind in ("PNG", "TIFF", "WEBP"):
        path = write("photo", encode(kind, stored.copy(), exif=exif(way)))
        assert (np.asarray(dogtl.read_photo(path)) == RGB).all()
    large = np.kron(stored, np.ones((64, 64, 1), np.uint8))
    path = write("photo", encode("JPEG", large, exif=exif(way), quality=98))
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


ENTRY = struct.pack("<HHHHI", 1, ORIENTATION, 3, 1, 0)[:-4]  # one entry, of one short
BROKEN_EXIF = {
    "empty": b"",
    "of another kind": b"<?xpacket?>",
    "a header alone": b"II*\0",
    "no entry": b"II*\0\x08\0\0\0\0\0",
    "cut in an entry": b"II*\0\x08\0\0\0" + ENTRY,
    "too many entries": b"II*\0\x08\0\0\0\xff\xff" + ENTRY,
    "outside": b"II*\0\xff\xff\xff\x7f",
    "a way 0": b"II*\0\x08\0\0\0" + ENTRY + b"\1\0\0\0\0\0\0\0\0\0\0\0",
    "a way 9": b"II*\0\x08\0\0\0" + ENTRY + b"\1\0\0\0\x09\0\0\0\0\0\0\0",
    "a loop": b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0",
    "large": bytes(60_000),
}


@pytest.mark.parametrize("broken", BROKEN_EXIF)
@pytest.mark.filterwarnings("ignore")
def test_broken_exif_data_spoil_no_photo(broken):
    for kind in ("JPEG", "PNG", "WEBP"):
        photo = write("photo", encode(kind, exif=b"Exif\0\0" + BROKEN_EXIF[broken]))
        assert dogtl.read_photo(photo).size == (12, 9)


# --- what is no image ----------------------------------------------------------------

WHOLE = encode("JPEG", np.tile(RGB, (20, 20, 1)))
BAD = {
    "nothing": b"",
    "one byte": b"\x89",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
    "noise": np.random.default_rng(5).bytes(5000),
    "zeros": bytes(5000),
    "a header alone": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "a program for Ghostscript": encode("EPS"),
    "cut png": encode("PNG")[:-150],
    "cut gif": encode("GIF")[:-60],
    "cut tiff": encode("TIFF")[:-200],
    "cut webp": encode("WEBP")[:-150],
    "a bomb": png(60_000, 60_000, 8, 2),
    "200 megapixels": png(20_000, 10_000, 8, 2),
    "much memory": png(13_300, 13_300, 16, 0),
    "no size": png(0, 0, 8, 2),
} | {f"cut at {i} of 20": WHOLE[: len(WHOLE) * i // 20] for i in range(1, 20)}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore")
def test_bytes_that_are_no_image_are_refused_with_a_reason(tmp_path, monkeypatch, name):
    write("gs", f"#!/bin/sh\ntouch {tmp_path}/called").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(dogtl.UnreadablePhoto) as caught:
        dogtl.read_photo(write("photo.jpg", BAD[name]))
    reason = str(caught.value)
    assert reason and not {"\n", "<"} & set(reason)
    assert not (tmp_path / "called").exists()
    assert name != "much memory" or reason == "it's larger than 100 megapixels"


def test_what_cannot_be_opened_is_another_error(tmp_path, monkeypatch):
    os.mkfifo("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    os.symlink("loop.jpg", "loop.jpg")
    write("short.jpg", encode("PNG"))
    monkeypatch.setattr(PngImageFile, "load", mock.Mock(side_effect=MemoryError))
    for name, reason in (
        ("none.jpg", errno.ENOENT),
        (".", errno.EINVAL),
        ("pipe.jpg", errno.EINVAL),  # reading it would never end
        ("socket.jpg", errno.EINVAL),
        ("loop.jpg", errno.ELOOP),
        ("x" * 300, errno.ENAMETOOLONG),
        ("short.jpg", errno.ENOMEM),
    ):
        with pytest.raises(OSError) as caught:
            dogtl.read_photo(tmp_path / name)
        assert caught.value.errno == reason and caught.value.strerror
    with open("sparse.jpg", "wb") as file:
        file.truncate(2**43)  # more than any memory
    with pytest.raises(dogtl.UnreadablePhoto, match="larger than 500 MB"):
        dogtl.read_photo("sparse.jpg")


def test_large_photos_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(dogtl.photos, "LARGE", 100)
    for side in (10, 11):
        Image.new("RGB", (side, side)).save(f"{side}.png")
    Image.new("RGB", (80, 80)).save("plain.jpg")
    Image.new("RGB", (80, 80)).save("whole.jpg", progressive=True)
    with ThreadPool(3) as pool:
        with dogtl.photos.LARGE_PHOTO_LOCK:  # somebody else decodes one
            large = [("11.png",), ("whole.jpg", 10)]
            waiting = [pool.apply_async(dogtl.read_photo, photo) for photo in large]
            for photo in (("10.png",), ("plain.jpg", 10)):
                assert pool.apply(dogtl.read_photo, photo).size == (10, 10)
            assert not any(result.ready() for result in waiting)
        assert [result.get(60).size for result in waiting] == [(11, 11), (10, 10)]


def test_a_large_jpeg_counts_as_small_as_it_is_decoded(monkeypatch):
    monkeypatch.setattr(dogtl.photos, "MAX_PIXELS", 100 * 75)
    Image.new("RGB", (800, 600)).save("phone.jpg")
    with pytest.raises(dogtl.UnreadablePhoto, match="megapixels"):
        dogtl.read_photo("phone.jpg")
    assert dogtl.read_photo("phone.jpg", short_side=75).size == (100, 75)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes of a file, leave some out, or cut it."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(data) if rng.random() < 0.8 else 64)
        size, extreme = rng.choice((1, 1, 4)), rng.choice((b"\0", b"\xff", b"\x7f"))
        new = (rng.randbytes(size), extreme * size, b"")
        changed[place : place + size] = rng.choice(new)
    return bytes(changed[: rng.choice((len(data), rng.randrange(len(data))))])


def test_mutated_files_are_images_or_unreadable(monkeypatch, thorough):
    monkeypatch.setattr(dogtl.photos, "MAX_PIXELS", 10**6)  # spares the time
    for seed in range(8000 if thorough else 300):
        rng = random.Random(seed)
        data = mutate(KINDS[rng.choice(list(KINDS))][0], rng)
        Path("photo").write_bytes(data)
        try:
            image = dogtl.read_photo("photo", rng.choice((None, 8)))
        except dogtl.UnreadablePhoto as error:
            assert re.fullmatch("((?! object at ).)+", str(error)), seed
        else:
            assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8, seed


# --- the listing ---------------------------------------------------------------------

USUAL = ("train/a/1.jpg", "train/b/1.jpg", "valid/a/1.jpg", "test/b/1.jpg")


def fill(folder, photos) -> Path:
    """Files by their paths, each with its content; or paths alone."""
    photos = photos if isinstance(photos, dict) else dict.fromkeys(photos, "x")
    for path, content in photos.items():
        write(folder / path, content)
    return folder


def write(path, text) -> Path:
    """A file of text, or of bytes."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(path)


def names(by_split, folder) -> dict[str, list[str]]:
    """What a listing holds of each split, as text relative to the folder."""
    return {
        split: [str(path.relative_to(folder)) for path in paths]
        for split, paths in by_split.items()
    }


@pytest.mark.parametrize("valid", ["valid", "validation", "val"])
def test_photos_are_listed_in_order_with_their_labels(tmp_path, valid):
    fill(tmp_path, [*USUAL, "train/b/10.jpg", "train/b/9.jpg", "train/a/Z.jpg"])
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
    strays = ("train/notes.txt", "test/b/deeper.jpg/1.jpg", "train/empty/.hidden")
    fill(tmp_path, [*USUAL, *hidden, *strays, "README.txt", "other/c/1.jpg"])
    links = {"valid/a/gone.jpg": "nowhere", "train/a/2.jpg": "other/c/1.jpg"}
    links |= {"train/c": "other/c", "train/loop": "train/loop"}
    for path, target in links.items():
        (tmp_path / path).symlink_to(tmp_path / target)
    os.mkfifo(tmp_path / "test/b/pipe")  # opening it would wait for ever
    photos = dogtl.load_photos(tmp_path)
    linked = ["train/a/2.jpg", "train/c/1.jpg"]
    listed = sum(names(photos.paths, tmp_path).values(), [])
    assert sorted(listed) == sorted([*USUAL, *linked])
    assert names(photos.skipped, tmp_path) == {
        "train": ["train/empty", "train/loop", "train/notes.txt"],
        "valid": ["valid/a/gone.jpg"],
        "test": ["test/b/deeper.jpg", "test/b/pipe"],
    }
    assert all(why for split in photos.skipped.values() for why in split.values())
    assert repr(photos) == "4 train, 1 valid, 1 test photos, 3 breeds, 6 skipped"


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (USUAL[:3], "no usable test photo: "),  # too few to cut
        (("train", *USUAL[2:]), "there is no folder .*/train: "),
        (USUAL[2:], "there is no folder .*/train: "),
        ((*USUAL, "val/a/1.jpg"), "/valid and .*/val are both for the split valid: "),
        ((*USUAL, "test/c/1.jpg"), "train lacks c, a breed in test of .*: "),
        ((*USUAL[:1], *USUAL[2:]), r" has 1 breed\(s\) in train, but needs "),
        (("train/note.txt", *USUAL[2:]), r" has 0 breed\(s\) in train, "),
        (("1.jpg", "a/deep/1.jpg", "b/.1.jpg"), r" has 0 breed\(s\) in train, "),
        ((*USUAL[:3], "test/b/.hidden"), "no usable test photo: "),
        ((*USUAL[:3], "test/stray.jpg"), "no usable test photo: "),
    ],
)
def test_a_folder_that_makes_no_sense_gives_one_sentence(tmp_path, paths, sentence):
    with pytest.raises(dogtl.DogtlError, match=sentence) as caught:
        dogtl.load_photos(fill(tmp_path, paths))
    assert str(tmp_path) in sentence_of(caught) and LAYOUTS in sentence_of(caught)


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
def test_what_is_missing_is_cut_from_train(tmp_path, caplog, there, counts):
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


def test_equal_photos_stay_together_and_missing_ones_count(tmp_path):
    same = {f"{breed}/{i}-again.jpg": f"a{i}" for breed in "ab" for i in range(40)}
    fill(tmp_path / "mine", MANY | same | {"c/1.jpg": "one", "c/2.jpg": "two"})
    photos = dogtl.load_photos("./mine")
    contents = {split: {p.read_text() for p in photos.paths[split]} for split in SPLITS}
    n_contents = sum(map(len, contents.values()))
    assert n_contents == 82 == len(set().union(*contents.values()))
    breeds = {path.parent.name for path in photos.paths["test"]}
    assert breeds == {"a", "b"}  # c is small
    write("gone.csv", "path,breed\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    assert sum(map(len, dogtl.load_photos("gone.csv").paths.values())) == 40


def test_contents_are_hashed_once_and_only_to_cut(tmp_path, home, monkeypatch):
    fill(tmp_path / "mine", MANY)
    dogtl.load_photos(fill(tmp_path / "whole", USUAL))
    assert not home.exists()
    first = dogtl.load_photos("./mine")
    (file,) = home.rglob("*.npz")
    intact = file.read_bytes()
    file.write_bytes(intact[:-50])
    assert dogtl.load_photos("./mine").paths == first.paths
    assert file.read_bytes() == intact
    for other in (["a"], 3.5, np.arange(6)):
        store.save_arrays(file, {"hashes": other})
        assert dogtl.load_photos("./mine").paths == first.paths
        assert file.read_bytes() == intact
    monkeypatch.setattr(dogtl.store, "fingerprint_file", None)
    assert dogtl.load_photos("./mine").paths == first.paths


def test_what_cannot_be_hashed_now_is_hashed_next_time(tmp_path, home, monkeypatch):
    fill(tmp_path / "mine", MANY)
    path = next((tmp_path / "mine").rglob("*.jpg"))
    with open(path.with_name("huge.jpg"), "wb") as huge:
        huge.truncate(1 << 43)  # takes no room, but wouldn't fit into memory
    right = dogtl.load_photos("./mine", home=tmp_path / "other").paths
    read = store.fingerprint_file
    fails = (PermissionError(13, "no right"), MemoryError())

    def fail(file):
        if file == path and errors:
            raise errors.pop()
        return read(file)

    for error in fails:
        errors = [error]
        monkeypatch.setattr(store, "fingerprint_file", fail)
        dogtl.load_photos("./mine")
        assert not errors and not list(home.rglob("*.npz"))
    assert dogtl.load_photos("./mine").paths == right


def test_photos_from_a_csv_file(tmp_path, caplog):
    lines = ("z/2.jpg, b ,", "/else/1.jpg,a,train", "z/../1.jpg,a,val", "2.jpg,b,test")
    file = write("lists/mine.csv", "\ufeffPath, Breed,split\r\n" + "\r\n".join(lines))
    folder = tmp_path / "lists"
    for chosen in (file, "./lists/mine.csv"):
        photos = dogtl.load_photos(chosen)
        assert (photos.name, photos.folder) == (str(tmp_path / file), folder)
        assert photos.paths == {
            "train": [Path("/else/1.jpg"), folder / "z/2.jpg"],
            "valid": [folder / "1.jpg"],
            "test": [folder / "2.jpg"],
        }
        assert [*map(list, photos.labels.values())] == [[0, 1], [0], [1]]
    assert caplog.messages[:2] == [
        f"all {split} photos are of {breed}: add others"
        for split, breed in (("valid", "a"), ("test", "b"))
    ]
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
        "path,breed\n1.jpg,a\n2\0.jpg,b\n",
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


@pytest.mark.parametrize(
    ("chosen", "folder"),
    [
        (None, "variable"),
        ("", "variable"),
        ("./given", "given"),
        ("~/given", "given"),
        (Path("given"), "given"),  # a Path is a path, without a / too
        ("dogs", "dogs"),
        ("./none", "there is no folder .*/none: "),
        ("none.csv", "there is no folder .*/none.csv: "),
        ("s3://bucket/dogs", "there is no folder s3:/bucket/dogs: "),
        ("~nosuchuser/dogs", "there is no folder .*/~nosuchuser/dogs: "),
        ("puppies", r"'puppies' isn't known: .* \(./puppies\)"),
    ],
)
def test_photos_are_chosen_by_argument_variable_and_kind(
    tmp_path, monkeypatch, chosen, folder
):
    for name in ("given", "variable", "dogs"):
        fill(tmp_path / name, USUAL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOGTL_PHOTOS", "./variable")
    monkeypatch.setenv("DOGTL_DOGS_URL", str(tmp_path / "dogs"))
    if not folder.isalpha():
        with pytest.raises(dogtl.DogtlError, match=folder):
            dogtl.load_photos(chosen)
        return
    photos = dogtl.load_photos(chosen)
    assert photos.folder == tmp_path / folder
    assert photos.name == (chosen if chosen == "dogs" else str(tmp_path / folder))
