"""Archives are fetched from servers that may be slow, broken or hostile."""

import resource
import stat
import tarfile
import time
import zipfile
from itertools import accumulate

import numpy as np
import pytest
from conftest import files_of, python, sentence, times_of
from http_server import tarred, zipped

import dogtl
from dogtl import DogtlError, download

RNG = np.random.default_rng(0)
BREEDS = ["001.Affenpinscher", "002.Afghan_hound"]
SPLITS = ("train", "valid", "test")
FOLDERS = [f"{split}/{breed}" for split in SPLITS for breed in BREEDS]
FILES = {f"{name}/{i}.jpg": RNG.bytes(1500) for name in FOLDERS for i in range(3)}
MEMBERS = [(f"dogImages/{name}", data) for name, data in FILES.items()]
MEMBERS += [("__MACOSX/dogImages/._a.jpg", b"what a Mac adds, and nobody wants")]
ARCHIVE = zipped(MEMBERS)
TWO = {name: RNG.bytes(1500) for name in ("a.jpg", "b.jpg")}


@pytest.fixture
def serve(web):
    """Serve an archive in some way; gives what was asked of it."""
    return lambda body=ARCHIVE, **options: web.serve("dogs.zip", body, **options)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "photos" / "dogs"


@pytest.fixture
def fetch(web, folder):
    """Fetch what is served: the folder holds all files, and nothing lies beside it."""

    def fetch(files=FILES, name="dogs.zip"):
        assert download.fetch_folder(web.address(name), folder) == folder
        assert files_of(folder) == files
        assert {file.name for file in folder.parent.iterdir()} == {"dogs", ".lock"}

    return fetch


@pytest.fixture
def fail(web, folder):
    """Fail to fetch what is served: one sentence with these words, and no folder."""

    def fail(words, name="dogs.zip"):
        address = name if "://" in name else web.address(name)
        with pytest.raises(DogtlError, match=words) as caught:
            download.fetch_folder(address, folder)
        assert sentence(caught) and not folder.exists()
        if "usable archive" in str(caught.value):  # then it isn't kept either
            assert not files_of(folder.parent)

    return fail


# --- the download ---------------------------------------------------------------------


def test_an_archive_is_fetched_once(serve, fetch, folder, caplog, web):
    served = serve()
    fetch()
    assert web.address("dogs.zip") in caplog.text and str(folder.parent) in caplog.text
    before = times_of(folder.parent)
    fetch()
    part = folder.with_name("dogs.part")  # left by a process killed at the very end
    (part / "unpacked" / "__MACOSX").mkdir(parents=True)
    (part / "archive").write_bytes(b"a gigabyte")
    fetch()
    assert served.asked == [None] and times_of(folder.parent) == before


def test_a_download_continues_at_its_last_byte_after_any_cuts(serve, fetch):
    cuts = [1, 1, 5000, 1024, 300, 7000, 1, 2]  # more than it tries without progress
    served = serve(cuts=list(cuts))
    fetch()
    assert served.asked == [None, *(f"bytes={start}-" for start in accumulate(cuts))]
    assert served.sent == len(ARCHIVE)  # no byte came twice


DATE = "Wed, 08 Mar 2017 12:00:00 GMT"


@pytest.mark.parametrize(
    ("options", "asked", "twice"),
    [
        ({"etag": "", "date": DATE}, "bytes=9000-", False),
        ({"etag": 'W/"weak"', "date": DATE}, "bytes=9000-", False),
        ({"etag": 'W/"weak"'}, None, True),
        ({"etag": ""}, None, True),
        ({"ranges": False}, "bytes=9000-", True),
    ],
)
def test_a_strong_tag_or_a_date_is_needed(serve, fetch, options, asked, twice):
    served = serve(cuts=[9000], **options)
    fetch()
    assert served.asked == [None, asked]
    assert served.sent == len(ARCHIVE) + 9000 * twice


@pytest.mark.parametrize(("more", "etag"), [(0, "two"), (5000, "two"), (5000, "one")])
def test_two_versions_are_never_joined(serve, fetch, fail, more, etag):
    """Even if the new one is shorter, and has the old one's tag."""
    old = bytes(len(ARCHIVE) + more)
    have = len(old) - 10
    serve(old, cuts=[have] * 9, ranges=False)
    fail(f"only {have:,} of {len(old):,} bytes")
    served = serve(etag=f'"{etag}"')
    fetch()
    assert served.asked[0] == f"bytes={have}-" and served.sent == len(ARCHIVE)


@pytest.mark.parametrize("have", [0, 9000])
@pytest.mark.parametrize("part", [0, 1, 8999, 9001])
def test_a_part_that_nobody_asked_for_is_refused(serve, fetch, fail, have, part):
    serve(cuts=[have] * 9, ranges=False)
    fail("bytes")
    serve(part=part, ranges=False)
    fail("another part")
    served = serve()
    fetch()
    assert served.asked == [None]


@pytest.mark.parametrize("length", ["", "abc", "-5", "1e4", "²"])
def test_a_length_that_is_missing_or_no_number(serve, fetch, fail, length):
    served = serve(length=length, cuts=[9000])
    fail("a usable archive")  # nobody could see that it was cut off
    fetch()
    assert served.asked == [None, None]


def test_a_length_that_is_wrong(serve, fail):
    total = len(ARCHIVE)
    serve(length=str(total - 7))
    fail("a usable archive")
    served = serve(length=str(total + 7), ranges=False)
    fail(f"only {total:,} of {total + 7:,} bytes")
    assert len(served.asked) == download.TRIES


@pytest.mark.parametrize(
    ("statuses", "times"),
    [((408, 416, 429, 500, 503), download.TRIES), ((400, 401, 403, 404, 410), 1)],
)
def test_a_busy_server_is_asked_again_but_no_other(serve, fetch, fail, statuses, times):
    for status in statuses:
        served = serve(answers=[status] * times)
        fail(f"HTTP {status} .*check that it's right and responds.*run this again")
        assert len(served.asked) == times
    fetch()


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/d.zip", "http://a b/", "x://y/z", "http://[::1/d.zip"]
    + ["http://127.0.0.1:99999/", "http://127.0.0.1:p/", "http://é/", "http:///"],
)
def test_no_network(fail, address):
    fail(r"can't be fetched \(.+\): check that.*dogtl fetch", address)


def test_an_address_that_has_moved(web, serve, fetch, fail):
    web.serve("round", b"", to="round")
    fail("HTTP 302", "round")
    web.serve("inside", b"", to="file:///etc/passwd")
    fail("HTTP 302", "inside")
    served = serve(cuts=[5000])
    web.serve("old", b"", to="dogs.zip")
    fetch(name="old")
    assert served.sent == len(ARCHIVE)


def test_a_server_that_falls_silent_is_asked_again(serve, fetch, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    served = serve(zipped(TWO.items()), pause=0.5)
    fetch(TWO)
    assert len(served.asked) > 2


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_disk_that_fills_up(serve, fetch, fail, unpacked):
    """It's like a limit on the size of files: seen when one is written."""
    big = {"big": bytes(99_000)}
    served = serve(tarred(members=big.items()) if unpacked else ARCHIVE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        fail("File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    served.asked.clear()
    fetch(big if unpacked else FILES)  # when there's room again, it continues
    assert served.asked == ([] if unpacked else ["bytes=9000-"])


def test_a_folder_that_can_t_be_made(serve, fail, folder):
    served = serve()
    folder.parents[1].write_bytes(b"a file")
    fail(f"{folder.parents[1]}.*fix this")
    assert not served.asked


# --- the archive ----------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_fetched_again(serve, fetch, fail, kind, cut):
    good = ARCHIVE if kind == "zip" else tarred(kind=kind, members=MEMBERS)
    at = len(good) - 5 if kind in ("gz", "bz2") else len(good) // 2
    serve(good[:at] + (b"" if cut else bytes([good[at] ^ 1]) + good[at + 1 :]))
    fail("usable archive.*fetch it again")
    serve(good)
    fetch()


def linked(kind: bytes) -> bytes:
    member = tarfile.TarInfo("train/link")
    member.type, member.linkname = kind, "test"  # a link that would stay inside
    return tarred(members=[*MEMBERS, (member, b"")])


NO_ARCHIVES = [b"", b"<html>an error</html>", b"PK\x03\x04", b"\x1f\x8b", b"BZh9"]
NO_ARCHIVES += [bytes(512), zipped([]), tarred()]
HUGE = [("a", bytes(1 << 22))]
BOMBS = [zipped(HUGE), tarred(members=HUGE), tarred(kind="xz", members=HUGE)]
BOMBS += [zipped([(str(i), b"") for i in range(len(FILES))])]
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


@pytest.mark.parametrize(
    ("body", "words"),
    [(body, "a usable archive") for body in NO_ARCHIVES]
    + [(linked(kind), "holds a link") for kind in LINKS]
    + [(body, "far too much") for body in BOMBS],
    ids=lambda value: value if isinstance(value, str) else "",  # bytes hold times
)
def test_an_archive_that_is_none_or_hostile(serve, fail, monkeypatch, body, words):
    monkeypatch.setattr(download, "SIZE_ALLOWANCE", 1 << 16)
    monkeypatch.setattr(download, "MAX_FILES", len(FILES) - (body in BOMBS))
    serve(body)
    fail(words)


@pytest.mark.parametrize("pack", [zipped, lambda members: tarred(members=members)])
@pytest.mark.parametrize(
    "name", ["../evil", "a/../../../evil", "/{0}/evil", "//{0}/evil", "..\\evil", ".."]
)
def test_no_path_leaves_its_folder(web, serve, folder, tmp_path, pack, name):
    """An archive with a bad name is refused, or the file is moved inside."""
    serve(pack([("good", b"good"), (name.format(tmp_path), b"evil")]))
    try:
        download.fetch_folder(web.address("dogs.zip"), folder)
    except DogtlError as error:
        assert sentence(error) and not folder.exists()
    else:
        assert (folder / "good").read_bytes() == b"good"
    assert all(path.is_relative_to(folder) for path in tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_become_files(serve, fetch, folder, mode):
    member = zipfile.ZipInfo("link")
    member.external_attr = (mode | 0o777) << 16
    serve(zipped([(member, b"/etc/passwd")]))
    fetch({"link": b"/etc/passwd"})
    assert stat.S_ISREG((folder / "link").lstat().st_mode)


# --- DOGTL_DOGS_URL -------------------------------------------------------------------


@pytest.fixture
def load_dogs(monkeypatch):
    """Load the dogs from an address or a path."""

    def load(source):
        monkeypatch.setenv("DOGTL_DOGS_URL", str(source))
        return dogtl.load_photos("dogs")

    return load


def test_dogs_from_an_address(serve, web, home, load_dogs, monkeypatch):
    served = serve()
    photos = load_dogs(web.address("dogs.zip"))
    assert photos.breeds == BREEDS and photos.name == "dogs"
    assert photos.folder.parent == home / "photos"
    web.serve("other.zip", zipped((FILES | {"train/Pug/0.jpg": b"pug"}).items()))
    assert load_dogs(web.address("other.zip")).breeds == [*BREEDS, "Pug"]
    assert load_dogs(web.address("dogs.zip")).folder == photos.folder
    assert served.asked == [None]
    monkeypatch.setattr("dogtl.photos.DOGS", web.address("dogs.zip"))
    assert load_dogs("").folder == home / "photos" / "dogs"  # Udacity's address


def test_dogs_from_a_zip_or_a_folder(load_dogs, tmp_path, monkeypatch):
    mine = tmp_path / "my dogs.zip"
    mine.write_bytes(ARCHIVE)
    for source in (mine.name, f"./{mine.name}", mine):
        photos = load_dogs(source)
        assert files_of(photos.folder) == FILES and mine.read_bytes() == ARCHIVE
    mine.write_bytes(zipped([*MEMBERS, ("dogImages/train/b.txt", b"new")]))
    assert "b.txt" in str(load_dogs(mine).skipped)  # it was replaced
    monkeypatch.chdir(photos.folder.parent)  # where this name means another file
    with pytest.raises(DogtlError, match="my dogs.zip.*No such file") as caught:
        load_dogs(mine.name)
    assert sentence(caught)
    for source in (photos.folder, f"./{photos.folder.name}", photos.folder.name):
        assert load_dogs(source).folder == photos.folder  # it's used where it lies


# --- kill -9 --------------------------------------------------------------------------

FETCH = """
import shutil, sys, time
from pathlib import Path
from dogtl import download
if "slowly" in sys.argv:
    copy = shutil.copyfileobj
    shutil.copyfileobj = lambda *arguments: (time.sleep(0.05), copy(*arguments))
download.fetch_folder(sys.argv[1], Path(sys.argv[2]))
"""


def kill_once(process, ready):
    """Wait until a process has come so far, then ``kill -9`` it in the middle."""
    end = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it was done before it could be killed"


def test_killed_while_it_downloads(serve, fetch, web, folder):
    body = zipped(TWO.items())  # less than what Python keeps before it writes to a file
    serve(body, pause=0.2)
    part = folder.with_name("dogs.part") / "archive"
    process = python(FETCH, web.address("dogs.zip"), folder)
    kill_once(process, lambda: part.exists() and part.stat().st_size > 1000)
    have = part.stat().st_size
    assert have < len(body) and not folder.exists()
    served = serve(body)
    fetch(TWO)
    assert served.asked == [f"bytes={have}-"] and served.sent == len(body) - have


def test_killed_while_it_unpacks(serve, fetch, web, folder):
    served = serve()
    part = folder.with_name("dogs.part") / "unpacked"
    process = python(FETCH, web.address("dogs.zip"), folder, "slowly")
    kill_once(process, lambda: list(part.rglob("*.jpg")))
    assert part.exists() and not folder.exists()
    (part / "dogImages" / "old.jpg").write_bytes(b"of an archive that was replaced")
    fetch()
    assert served.asked == [None]  # it isn't downloaded again


def test_two_at_a_time_fetch_once(serve, fetch, web, folder):
    served = serve(pause=0.002)
    both = [python(FETCH, web.address("dogs.zip"), folder) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    fetch()
    assert served.asked == [None]
