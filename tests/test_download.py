"""Archives are fetched from servers that may be slow, broken or hostile."""

import io
import shutil
import stat
import tarfile
import zipfile
from itertools import accumulate, count

import numpy as np
import pytest
from conftest import files_of, kill_once, python, sentence, times_of
from http_server import tarred, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dogtl
from dogtl import DogtlError, download

SPLITS = ("train", "valid", "test")
BREEDS = ["001.Affenpinscher", "002.Afghan_hound"]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Files in the layout of Udacity's dogs; nothing here opens them as photos."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("few") / "dogImages"
    for split in SPLITS:
        for breed in BREEDS:
            (folder / split / breed).mkdir(parents=True)
            for i in range(3):
                (folder / split / breed / f"{i}.jpg").write_bytes(rng.bytes(1500))
    return folder


@pytest.fixture(scope="module")
def archive(few):
    return zipped(few, "dogImages/")


@pytest.fixture
def serve(web, archive):
    """Serve an archive in some way; gives what was asked of it."""
    return lambda body=archive, **options: web.serve("dogs.zip", body, **options)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "photos" / "dogs"


@pytest.fixture
def fetch(web, folder):
    """Fetch what is served into the folder."""
    return lambda: download.fetch_folder(web.address("dogs.zip"), folder)


def assert_fetched(folder, few):
    """The folder holds all files, and nothing lies beside it."""
    assert files_of(folder) == files_of(few)
    assert {file.name for file in folder.parent.iterdir()} == {folder.name, ".lock"}


# --- the download ---------------------------------------------------------------------


def test_an_archive_is_fetched_once(serve, fetch, folder, few, caplog, web):
    served = serve()
    assert fetch() == folder
    assert_fetched(folder, few)
    assert web.address("dogs.zip") in caplog.text and str(folder.parent) in caplog.text
    before = times_of(folder.parent)
    assert fetch() == folder and served.asked == [None]
    assert times_of(folder.parent) == before


number = count()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(1, 9000), max_size=8))
def test_a_download_continues_at_its_last_byte_after_any_cuts(
    web, folder, few, archive, cuts
):
    name = f"{next(number)}.zip"
    served = web.serve(name, archive, cuts=list(cuts))
    assert files_of(
        download.fetch_folder(web.address(name), folder.with_name(name))
    ) == files_of(few)
    assert served.sent == len(archive)  # no byte came twice
    starts = [start for start in accumulate(cuts) if start < len(archive)]
    assert served.asked == [None, *(f"bytes={start}-" for start in starts)]


DATE = "Wed, 08 Mar 2017 12:00:00 GMT"


@pytest.mark.parametrize(
    ("options", "asked", "twice"),
    [
        ({"etag": None, "date": DATE}, ["half"], False),
        ({"etag": 'W/"weak"', "date": DATE}, ["half"], False),
        ({"ranges": False}, ["half"], True),
        ({"etag": None}, [None], True),
        ({"etag": 'W/"weak"'}, [None], True),
        ({"wrong_part": True}, ["half", None], True),
    ],
)
def test_a_server_that_can_t_continue_starts_over(
    serve, fetch, folder, few, archive, options, asked, twice
):
    half = len(archive) // 2
    served = serve(cuts=[half], **options)
    fetch()
    assert_fetched(folder, few)
    assert served.asked == [None, *(f"bytes={half}-" if one else None for one in asked)]
    assert (served.sent > len(archive)) == twice


def test_a_file_that_changed_is_never_joined_to_the_old_part(
    serve, fetch, folder, few, archive
):
    half = len(archive) // 2
    serve(bytes(len(archive)), cuts=[half] * 9, ranges=False)
    with pytest.raises(DogtlError, match=f"{half:,} of {len(archive):,} bytes"):
        fetch()
    served = serve(etag='"two"')
    fetch()
    assert served.asked == [f"bytes={half}-"] and served.sent == len(archive)
    assert_fetched(folder, few)


@pytest.mark.parametrize("etag", ['"one"', '"two"'])
def test_a_file_that_became_shorter(serve, fetch, folder, few, archive, etag):
    longer = archive + bytes(5000)
    serve(longer, cuts=[len(longer) - 10] * 9, ranges=False)
    with pytest.raises(DogtlError):
        fetch()
    serve(etag=etag)
    fetch()
    assert_fetched(folder, few)


@pytest.mark.parametrize("first", [0, 1, 5000])
def test_a_part_that_nobody_asked_for(serve, fetch, folder, few, first):
    """It is the whole file or it's refused; it never passes for the whole."""
    serve(unasked=first)
    try:
        fetch()
    except DogtlError as error:
        assert "another part" in sentence(error) and not folder.exists()
    else:
        assert first == 0
        assert_fetched(folder, few)


@pytest.mark.parametrize("length", [-1, "abc", "-5", "1e4"])
def test_a_length_that_is_missing_or_no_number(serve, fetch, folder, few, length):
    serve(length=length)
    fetch()
    assert_fetched(folder, few)


def test_a_cut_that_no_length_gives_away(serve, fetch, folder, few, archive):
    served = serve(length=-1, cuts=[len(archive) // 2])
    with pytest.raises(DogtlError, match="a usable archive") as caught:
        fetch()
    assert sentence(caught)
    fetch()
    assert served.asked == [None, None]
    assert_fetched(folder, few)


def test_a_length_that_is_too_long(serve, fetch, folder, archive):
    served = serve(length=len(archive) + 7, ranges=False)
    with pytest.raises(DogtlError) as caught:
        fetch()
    assert f"{len(archive):,} of {len(archive) + 7:,} bytes" in sentence(caught)
    assert len(served.asked) == download.TRIES and not folder.exists()


def test_a_length_that_is_too_short(serve, fetch, folder, archive):
    serve(length=len(archive) - 7)
    with pytest.raises(DogtlError, match="a usable archive") as caught:
        fetch()
    assert sentence(caught) and not files_of(folder.parent)


def test_a_busy_server_is_asked_again(serve, fetch, folder, few):
    served = serve(answers=[503, 429, 408])
    fetch()
    assert len(served.asked) == 4
    assert_fetched(folder, few)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_patience_ends(serve, fetch, folder, status):
    served = serve(answers=[status] * 9)
    with pytest.raises(DogtlError, match=f"{status}.*run the same command") as caught:
        fetch()
    assert sentence(caught) and len(served.asked) == download.TRIES
    assert not folder.exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_address_that_holds_nothing_is_asked_once(serve, fetch, folder, status):
    served = serve(answers=[status] * 9)
    with pytest.raises(
        DogtlError, match=f"answers {status}.*another address"
    ) as caught:
        fetch()
    assert sentence(caught) and len(served.asked) == 1 and not folder.exists()


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/d.zip", "http://a b/", "x://y/z", "http://[::1/d.zip"],
)
def test_no_network(web, folder, address):
    with pytest.raises(DogtlError, match="respond.*dogtl fetch") as caught:
        download.fetch_folder(address, folder)
    assert address in sentence(caught) and not folder.exists()


def test_an_address_that_has_moved(web, serve, folder, few, archive):
    served = serve(cuts=[5000])
    web.serve("old", b"", to="dogs.zip")
    download.fetch_folder(web.address("old"), folder)
    assert served.sent == len(archive)
    assert_fetched(folder, few)
    web.serve("round", b"", to="round")
    with pytest.raises(DogtlError, match="answers 302") as caught:
        download.fetch_folder(web.address("round"), folder.with_name("other"))
    assert sentence(caught)


def test_a_disk_that_fills_up(serve, fetch, folder, few, monkeypatch):
    served, copy = serve(), shutil.copyfileobj

    def fill_up(source, target, *arguments):
        if "test" in target.name:
            raise OSError(28, "No space left on device", target.name)
        copy(source, target, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fill_up)
        with pytest.raises(DogtlError, match="No space left on device") as caught:
            fetch()
    assert sentence(caught) and not folder.exists()
    fetch()  # when there's room again, it isn't downloaded again
    assert_fetched(folder, few)
    assert served.asked == [None]


# --- the archive ----------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    """The data with one bit turned over."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("spoil", ["zip", "zip cut", "gz", "gz cut", "bz2", "xz"])
def test_a_corrupt_archive_is_fetched_again(serve, fetch, folder, few, archive, spoil):
    kind, *cut = spoil.split()
    good = archive if kind == "zip" else tarred(few, kind=kind)
    at = {"zip": len(archive) // 2, "gz": -5, "bz2": -5, "xz": len(good) // 2}[kind]
    serve(good[:-2000] if cut else flipped(good, at))
    with pytest.raises(DogtlError, match="usable archive.*fetch it again") as caught:
        fetch()
    assert sentence(caught) and not files_of(folder.parent)
    serve(good)
    fetch()
    assert_fetched(folder, few)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>an error</html>", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", bytes(512)]
    + [zipped(None), tarred(None)],
)
def test_what_is_no_archive(serve, fetch, folder, body):
    serve(body)
    with pytest.raises(DogtlError, match="a usable archive") as caught:
        fetch()
    assert sentence(caught) and not files_of(folder.parent)


BAD_NAMES = ["../evil", "../../evil", "../../../evil", "a/../../evil", "./../evil"]
BAD_NAMES += ["a/b/../../../../evil", "{outside}/evil", "//{outside}/evil", ".."]
BAD_NAMES += ["\\evil", "C:\\evil", "C:/evil", "a\\..\\..\\evil", "..\\evil"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_path_leaves_its_folder(serve, fetch, folder, few, tmp_path, kind, name):
    """A zip's bad names are moved inside, a tar with one is refused."""
    name = name.format(outside=tmp_path / "outside")
    if kind == "zip":
        serve(zipped(few, "dogImages/", {name: b"evil"}))
    else:
        serve(tarred(few, "dogImages/", more=[(tarfile.TarInfo(name), b"evil")]))
    try:
        fetch()
    except DogtlError as error:
        assert sentence(error) and not folder.exists()
    else:
        assert kind == "zip" or ".." not in name.split("/")
        # a hidden name beside the one folder doesn't count
        assert files_of(few) in (files_of(folder / "dogImages"), files_of(folder))
    evil = list(tmp_path.rglob("*evil*"))
    assert all(path.is_relative_to(folder) for path in evil)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_no_link_and_no_device_comes_out_of_a_tar(serve, fetch, folder, kind):
    member = tarfile.TarInfo("train")
    member.type, member.linkname = kind, "/etc"
    serve(tarred(None, more=[(member, b"")]))
    with pytest.raises(DogtlError, match="train, which is a link") as caught:
        fetch()
    assert sentence(caught) and not files_of(folder.parent)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_no_link_and_no_device_comes_out_of_a_zip(serve, fetch, folder, mode):
    member = zipfile.ZipInfo("train/link")
    member.external_attr = (mode | 0o777) << 16
    serve(zipped(None, "", {member: b"/etc/passwd", "valid/a.jpg": b"a"}))
    fetch()
    facts = (folder / "train" / "link").lstat()
    assert stat.S_ISREG(facts.st_mode) and facts.st_size == len(b"/etc/passwd")


@pytest.mark.parametrize("kind", ["zip", "gz", "xz"])
def test_no_archive_unpacks_to_far_too_much(serve, fetch, folder, kind, monkeypatch):
    monkeypatch.setattr(download, "SPARE", 1 << 16)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("train/a/b.jpg", bytes(1 << 21))
    member = tarfile.TarInfo("train/a/b.jpg")
    bomb = buffer.getvalue()
    serve(bomb if kind == "zip" else tarred(None, "", kind, [(member, bytes(1 << 21))]))
    with pytest.raises(DogtlError, match="far too much") as caught:
        fetch()
    assert sentence(caught) and not files_of(folder.parent)


def test_no_archive_unpacks_to_far_too_many_files(serve, fetch, folder, monkeypatch):
    monkeypatch.setattr(download, "MAX_FILES", 3)
    serve(zipped(None, "", {f"a/{i}": b"" for i in range(4)}))
    with pytest.raises(DogtlError, match="far too much"):
        fetch()
    assert not files_of(folder.parent)


def test_a_mac_s_folder_beside_the_folder_is_no_harm(serve, fetch, folder, few):
    serve(zipped(few, "dogImages/", {"__MACOSX/dogImages/train/._a.jpg": b"x"}))
    fetch()
    assert_fetched(folder, few)


# --- DOGTL_DOGS_URL -------------------------------------------------------------------


@pytest.fixture
def load_dogs(monkeypatch):
    """Load the dogs from an address or a path."""

    def load(source):
        monkeypatch.setenv("DOGTL_DOGS_URL", str(source))
        return dogtl.load_photos("dogs")

    return load


def test_dogs_from_an_address(serve, web, few, home, load_dogs):
    served = serve()
    photos = load_dogs(web.address("dogs.zip"))
    assert photos.breeds == BREEDS and photos.name == "dogs"
    assert photos.folder.parent == home / "photos"
    assert_fetched(photos.folder, few)
    load_dogs(web.address("dogs.zip"))
    assert served.asked == [None]
    more = {f"{split}/003.Pug/0.jpg": b"pug" for split in SPLITS}
    web.serve("other.zip", zipped(few, "", more))
    assert load_dogs(web.address("other.zip")).breeds == [*BREEDS, "003.Pug"]
    assert load_dogs(web.address("dogs.zip")).breeds == BREEDS


def test_dogs_from_udacity_s_address(serve, web, few, home, load_dogs, monkeypatch):
    serve()
    monkeypatch.setattr("dogtl.photos.DOGS", web.address("dogs.zip"))
    for source in ("", web.address("dogs.zip")):
        assert load_dogs(source).folder == home / "photos" / "dogs"
    assert_fetched(home / "photos" / "dogs", few)


def test_dogs_from_a_zip(few, archive, load_dogs, tmp_path, monkeypatch):
    mine = tmp_path / "my dogs.zip"
    mine.write_bytes(archive)
    for source in (mine.name, f"./{mine.name}", mine, mine.as_uri()):
        assert files_of(load_dogs(source).folder) == files_of(few)
    assert mine.read_bytes() == archive
    mine.write_bytes(zipped(few, "dogImages/", {"dogImages/train/b.txt": b"new"}))
    assert "b.txt" in str(load_dogs(mine).skipped)  # it was replaced
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where this name means another file
    with pytest.raises(DogtlError, match="my dogs.zip.*No such file") as caught:
        load_dogs(mine.name)
    assert sentence(caught)


def test_dogs_in_a_folder_are_used_where_they_lie(few, home, load_dogs, monkeypatch):
    monkeypatch.chdir(few.parent)
    for source in (few, "./dogImages", "dogImages"):
        photos = load_dogs(source)
        assert photos.folder == few and photos.breeds == BREEDS
    assert not home.exists()


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


def test_killed_while_it_downloads(serve, fetch, web, folder, few, archive):
    serve(pause=0.02)
    part = folder.with_name("dogs.part") / "archive"
    process = python(FETCH, web.address("dogs.zip"), folder)
    kill_once(process, lambda: part.exists() and part.stat().st_size > 5000)
    have = part.stat().st_size
    assert 5000 < have < len(archive) and not folder.exists()
    served = serve()
    fetch()
    assert served.asked == [f"bytes={have}-"] and served.sent == len(archive) - have
    assert_fetched(folder, few)


def test_killed_while_it_unpacks(serve, fetch, web, folder, few):
    served = serve()
    part = folder.with_name("dogs.part") / "unpacked"
    process = python(FETCH, web.address("dogs.zip"), folder, "slowly")
    kill_once(process, lambda: list(part.rglob("*.jpg")))
    assert part.exists() and not folder.exists()
    (part / "dogImages" / "old.jpg").write_bytes(b"of an archive that was replaced")
    fetch()
    assert served.asked == [None]  # it isn't downloaded again
    assert_fetched(folder, few)


def test_killed_at_the_very_end(serve, fetch, folder, few):
    served = serve()
    fetch()
    part = folder.with_name("dogs.part")
    (part / "unpacked" / "__MACOSX").mkdir(parents=True)
    for name in ("archive", "archive.npz", "unpacked/__MACOSX/x"):
        (part / name).write_bytes(b"{}")
    fetch()
    assert_fetched(folder, few)
    assert len(served.asked) == 1


def test_two_at_a_time_fetch_once(serve, web, folder, few):
    served = serve(pause=0.002)
    both = [python(FETCH, web.address("dogs.zip"), folder) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert served.asked == [None]
    assert_fetched(folder, few)
