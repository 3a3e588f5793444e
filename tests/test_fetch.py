"""Photos and modules are fetched from a server that may be slow, broken or hostile."""

import io
import re
import shutil
import stat
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photos, files_of, kill_once, python, times_of
from http_server import Server, tarred, zipped

from dogtl import extract, fetch, modules
from dogtl.choices import Choice
from dogtl.cli import main
from dogtl.modules import KNOWN, ModuleError, describe, input_size, load
from dogtl.photos import PhotosError, find_photos

REAL = Path(__file__).parents[2] / "shared" / "real"


@pytest.fixture(scope="module")
def web():
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def unhurried(monkeypatch, web):
    monkeypatch.setattr(fetch, "PAUSE", 0)
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    web.files.clear()
    web.queries.clear()
    load.cache_clear()


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Photos of two breeds, as Udacity lays them out."""
    counts = {"train": (3, 3), "valid": (2, 2), "test": (2, 2)}
    folder = tmp_path_factory.mktemp("few") / "dogImages"
    return draw_photos(folder, ("001.Affenpinscher", "002.Afghan_hound"), counts)


@pytest.fixture(scope="module")
def archive(few):
    return zipped(few, "dogImages/")


@pytest.fixture
def choice(tmp_path):
    return Choice("dogs", "toy", None, tmp_path / "home")


@pytest.fixture
def dogs(web, archive, monkeypatch):
    """Serve the dogs' archive in some way and make that the dogs' address."""

    def serve(body=archive, **options):
        monkeypatch.setenv("DOGTL_DOGS_URL", web.address("dogs.zip"))
        return web.serve("dogs.zip", body, **options)

    return serve


def without_notes(folder) -> dict[str, bytes]:
    """The files below a folder, without the list that the fetch leaves."""
    return {k: v for k, v in files_of(folder).items() if fetch.MANIFEST not in k}


def assert_fetched(choice, few):
    """The photos are there as they were drawn, and nothing lies beside them."""
    assert without_notes(choice.home / "photos" / "dogs") == files_of(few)
    assert [file.name for file in (choice.home / "photos").iterdir()] == ["dogs"]


def sentence(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text and not re.search(r"Error\b|Traceback|Errno", text), text
    return text


# --- the download --------------------------------------------------------------------


def test_the_dogs_are_fetched_once(choice, dogs, few, caplog):
    served = dogs()
    photos = find_photos(choice)
    assert photos.folder == choice.home / "photos" / "dogs"
    assert photos.breeds == ["001.Affenpinscher", "002.Afghan_hound"]
    assert_fetched(choice, few)
    megabytes = f"{len(served.body) / 1e6:.1f} MB"
    assert megabytes in caplog.text and str(photos.folder.parent) in caplog.text
    before = times_of(choice.home)
    assert find_photos(choice) == photos and served.asked == [None]
    assert times_of(choice.home) == before


def test_the_published_counts_need_no_word(choice, dogs, caplog, monkeypatch):
    counts = {"train": 6, "valid": 4, "test": 4, "breeds": 2}
    monkeypatch.setattr("dogtl.photos.PUBLISHED", counts)
    dogs()
    find_photos(choice)
    assert "as published" not in caplog.text


def test_what_differs_from_the_published_counts_is_named(choice, dogs, caplog):
    dogs()
    find_photos(choice)
    assert "6 train instead of 6,680" in caplog.text
    assert "4 test instead of 836" in caplog.text
    assert "2 breeds instead of 133" in caplog.text


def test_a_download_that_is_cut_goes_on(choice, dogs, few, archive):
    served = dogs(cut=len(archive) // 3)
    find_photos(choice)
    assert_fetched(choice, few)
    assert served.sent == len(archive)  # no byte came twice
    third = len(archive) // 3
    assert served.asked[:3] == [None, f"bytes={third}-", f"bytes={2 * third}-"]


@pytest.mark.parametrize(
    "options",
    [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}, {"wrong_part": True}],
)
def test_a_server_without_ranges_starts_over(
    choice, dogs, few, archive, monkeypatch, options
):
    served = dogs(cut=len(archive) // 2, **options)
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    monkeypatch.setattr(
        fetch.time, "sleep", lambda seconds: served.__setattr__("cut", None)
    )
    find_photos(choice)
    assert_fetched(choice, few)


def test_a_date_serves_as_well_as_a_tag(choice, dogs, few, archive):
    date = "Wed, 08 Mar 2017 12:00:00 GMT"
    served = dogs(cut=len(archive) // 2 + 1, etag=None, date=date)
    find_photos(choice)
    assert_fetched(choice, few)
    assert served.sent == len(archive)


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", "{}"])
def test_a_spoilt_note_starts_over(choice, dogs, few, archive, text):
    home = choice.home / "photos"
    home.mkdir(parents=True)
    (home / "dogs.archive").write_bytes(archive[:5000])
    (home / "dogs.archive.json").write_text(text)
    (home / "dogs").mkdir()
    (home / "dogs" / fetch.MANIFEST).write_text(text)
    served = dogs()
    find_photos(choice)
    assert served.asked == [None]
    assert_fetched(choice, few)


def test_a_file_that_changed_meanwhile_is_not_joined(choice, dogs, few, archive):
    dogs(cut=len(archive) // 2, ranges=False)
    with pytest.raises(PhotosError):
        find_photos(choice)
    part = choice.home / "photos" / "dogs.archive"
    assert part.stat().st_size == len(archive) // 2
    served = dogs(etag='"two"')
    find_photos(choice)
    assert served.asked == [f"bytes={len(archive) // 2}-"]
    assert served.sent == len(archive)
    assert_fetched(choice, few)


def test_a_file_that_became_shorter(choice, dogs, few, archive, tmp_path):
    more = {"dogImages/train/zzz.jpg": bytes(5000)}
    longer = zipped(few, "dogImages/", more)
    dogs(longer, cut=len(longer) - 10, ranges=False)
    with pytest.raises(PhotosError):
        find_photos(choice)
    dogs()
    find_photos(choice)
    assert_fetched(choice, few)


def test_a_busy_server_is_asked_again(choice, dogs, few):
    served = dogs(answers=[503, 429, 500])
    find_photos(choice)
    assert len(served.asked) == 4
    assert_fetched(choice, few)


def test_patience_has_an_end(choice, dogs):
    served = dogs(answers=[503] * 9)
    with pytest.raises(PhotosError, match="503.*again later") as caught:
        find_photos(choice)
    assert len(served.asked) == fetch.TRIES and sentence(caught)


def test_an_answer_of_unknown_length(choice, dogs, few):
    dogs(length=-1)
    find_photos(choice)
    assert_fetched(choice, few)


def test_a_length_that_is_too_long(choice, dogs, archive):
    dogs(length=len(archive) + 7, ranges=False)
    with pytest.raises(PhotosError) as caught:
        find_photos(choice)
    assert f"{len(archive):,} of {len(archive) + 7:,} bytes" in sentence(caught)


def test_a_length_that_is_too_short(choice, dogs, archive):
    dogs(length=len(archive) - 7)
    with pytest.raises(PhotosError, match="no archive that can be used") as caught:
        find_photos(choice)
    assert sentence(caught) and not files_of(choice.home)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_address_that_holds_nothing(choice, dogs, status):
    served = dogs(answers=[status] * 9)
    with pytest.raises(
        PhotosError, match=rf"answers {status}.*another address"
    ) as caught:
        find_photos(choice)
    assert len(served.asked) == 1 and sentence(caught)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/d.zip", "http://a b/", "x://y/z"]
)
def test_no_network(choice, monkeypatch, address):
    monkeypatch.setenv("DOGTL_DOGS_URL", address)
    with pytest.raises(PhotosError, match="gives no answer.*dogtl fetch") as caught:
        find_photos(choice)
    assert address in sentence(caught) and not files_of(choice.home)


def test_a_full_disk_is_noticed_before(choice, dogs, monkeypatch, archive):
    served = dogs()
    usage = shutil.disk_usage("/")._replace(free=len(archive))
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        PhotosError, match="make room or choose another --home"
    ) as caught:
        find_photos(choice)
    assert sentence(caught) and len(served.asked) == 1
    assert not list(choice.home.rglob("*.archive"))


def test_a_disk_that_fills_up(choice, dogs, few, archive, monkeypatch):
    served = dogs()
    real = zipfile.ZipFile.extract

    def extract(self, member, path):
        if "test" in member.filename:
            raise OSError(28, "No space left on device", member.filename)
        return real(self, member, path)

    monkeypatch.setattr(zipfile.ZipFile, "extract", extract)
    with pytest.raises(PhotosError, match="No space left on device") as caught:
        find_photos(choice)
    assert sentence(caught)
    assert {f.name for f in (choice.home / "photos").iterdir()} == {
        "dogs.archive",
        "dogs.archive.json",
    }
    monkeypatch.setattr(zipfile.ZipFile, "extract", real)
    find_photos(choice)  # when there is room again
    assert_fetched(choice, few)
    assert served.asked == [None]


# --- the archive ---------------------------------------------------------------------


def test_a_corrupt_archive_is_fetched_again(choice, dogs, few, archive):
    at = archive.index(b"\xff\xd8", len(archive) // 2) + 60
    dogs(archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :])
    with pytest.raises(PhotosError, match="Bad CRC.*fetch it again") as caught:
        find_photos(choice)
    assert sentence(caught) and not files_of(choice.home)
    dogs()
    find_photos(choice)
    assert_fetched(choice, few)


@pytest.mark.parametrize(
    "body", [b"", b"<html>an error</html>", b"PK\x03\x04", b"\x1f\x8b"]
)
def test_what_is_no_archive(choice, dogs, body):
    dogs(body)
    with pytest.raises(PhotosError, match="no archive that can be used") as caught:
        find_photos(choice)
    assert sentence(caught) and not files_of(choice.home)


def link(name, mode=stat.S_IFLNK):
    info = zipfile.ZipInfo(name)
    info.external_attr = (mode | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/evil",
        "\\evil",
        "C:\\evil",
        "a\\..\\..\\evil",
        "a/..",
    ],
)
def test_no_path_leaves_the_folder(choice, dogs, few, name, tmp_path):
    dogs(zipped(few, "dogImages/", {name: b"evil"}))
    with pytest.raises(PhotosError, match="would leave its folder") as caught:
        find_photos(choice)
    assert sentence(caught) and not files_of(choice.home)
    assert not list(tmp_path.rglob("*evil*")) and not Path("/evil").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_no_link_and_no_device(choice, dogs, few, mode):
    dogs(zipped(few, "dogImages/", {link("dogImages/x", mode): b"/etc/passwd"}))
    with pytest.raises(PhotosError, match="dogImages/x, which is a link") as caught:
        find_photos(choice)
    assert sentence(caught) and not files_of(choice.home)


def test_an_archive_that_would_fill_the_disk(choice, dogs, monkeypatch):
    monkeypatch.setattr(fetch, "SPARE", 1 << 16)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("dogImages/train/a/b.jpg", bytes(1 << 20))
    dogs(buffer.getvalue())
    with pytest.raises(PhotosError, match="far too much") as caught:
        find_photos(choice)
    assert sentence(caught) and not files_of(choice.home)
    monkeypatch.setattr(fetch, "SPARE", 1 << 30)
    monkeypatch.setattr(fetch, "MOST_FILES", 3)
    dogs(zipped(None, "", {f"a/{i}": b"" for i in range(4)}))
    with pytest.raises(PhotosError, match="far too much"):
        find_photos(choice)


def test_a_mac_s_extras_are_left_out(choice, dogs, few):
    junk = {
        "__MACOSX/dogImages/train/._a.jpg": b"x",
        "dogImages/train/._a.jpg": b"x",
        "dogImages/.DS_Store": b"x",
    }
    dogs(zipped(few, "dogImages/", junk))
    find_photos(choice)
    assert_fetched(choice, few)


def test_an_archive_without_a_folder_around_it(choice, dogs, few):
    dogs(zipped(few))
    find_photos(choice)
    assert_fetched(choice, few)


# --- what the user has ---------------------------------------------------------------


def test_a_zip_that_is_here(choice, few, archive, monkeypatch, tmp_path):
    mine = tmp_path / "mine.zip"
    mine.write_bytes(archive)
    monkeypatch.setenv("DOGTL_DOGS_URL", "mine.zip")
    find_photos(choice)
    assert_fetched(choice, few)
    assert mine.read_bytes() == archive
    mine.write_bytes(zipped(few, "", {"train/001.Affenpinscher/new.jpg": b"new"}))
    assert "train/001.Affenpinscher/new.jpg" in find_photos(choice).stamps["train"]
    mine.unlink()
    find_photos(choice)  # it is not needed any more
    monkeypatch.setenv("DOGTL_DOGS_URL", str(tmp_path / "none.zip"))
    with pytest.raises(PhotosError, match="none.zip.*No such file") as caught:
        find_photos(choice)
    assert sentence(caught)


def test_a_file_address(choice, few, archive, monkeypatch, tmp_path):
    (tmp_path / "my dogs.zip").write_bytes(archive)
    monkeypatch.setenv("DOGTL_DOGS_URL", (tmp_path / "my dogs.zip").as_uri())
    find_photos(choice)
    assert_fetched(choice, few)


def test_a_folder_is_used_where_it_lies(choice, few, monkeypatch):
    for given in (str(few), few.as_uri()):
        monkeypatch.setenv("DOGTL_DOGS_URL", given)
        assert find_photos(choice).folder == few
    assert not choice.home.exists()


def test_another_address_brings_other_dogs(choice, dogs, web, many, monkeypatch):
    dogs()
    assert len(find_photos(choice).breeds) == 2
    web.serve("other.zip", zipped(many))
    monkeypatch.setenv("DOGTL_DOGS_URL", web.address("other.zip"))
    assert len(find_photos(choice).breeds) == 7
    monkeypatch.setenv("DOGTL_DOGS_URL", "")  # a home from elsewhere has what it has
    assert len(find_photos(choice).breeds) == 7


# --- kill -9 -------------------------------------------------------------------------

FIND = """
import sys
from pathlib import Path
from dogtl.choices import Choice
from dogtl.photos import find_photos
find_photos(Choice("dogs", "toy", None, Path(sys.argv[1])))
"""
SLOW = """
import time, zipfile
real = zipfile.ZipFile.extract
zipfile.ZipFile.extract = lambda *arguments: (time.sleep(0.05), real(*arguments))
"""


def test_killed_while_it_downloads(choice, dogs, few, archive):
    served = dogs(pause=0.02)
    part = choice.home / "photos" / "dogs.archive"
    process = python(FIND, choice.home)
    kill_once(process, lambda: part.exists() and part.stat().st_size > 5000)
    have = part.stat().st_size
    assert 5000 < have < len(archive)
    served = dogs()
    find_photos(choice)
    assert served.asked == [f"bytes={have}-"] and served.sent == len(archive) - have
    assert_fetched(choice, few)


def test_killed_while_it_unpacks(choice, dogs, few):
    served = dogs()
    part = choice.home / "photos" / "dogs.part"
    kill_once(python(SLOW + FIND, choice.home), lambda: list(part.rglob("*.jpg")))
    assert part.exists() and not (choice.home / "photos" / "dogs").exists()
    find_photos(choice)
    assert served.asked == [None]  # it was not downloaded again
    assert_fetched(choice, few)


def test_killed_at_the_very_end(choice, dogs, few, archive):
    served = dogs()
    find_photos(choice)
    for name in ("dogs.archive", "dogs.archive.json", "dogs.archive.json.part"):
        (choice.home / "photos" / name).write_bytes(b"{}")
    find_photos(choice)
    assert_fetched(choice, few)
    assert len(served.asked) == 1


def test_two_at_a_time_fetch_once(choice, dogs, few):
    served = dogs(pause=0.002)
    both = [python(FIND, choice.home) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert served.asked == [None]
    assert_fetched(choice, few)


# --- modules -------------------------------------------------------------------------


@pytest.fixture
def module(web, grid):
    """Serve a module in TF Hub's compressed form; gives how, and its address."""
    return web.serve("m.tar.gz", tarred(grid)), web.address("m.tar.gz")


def cached(choice):
    """The folders of fetched modules."""
    cache = choice.home / "modules" / "tfhub"
    return [folder for folder in cache.iterdir() if folder.name != ".lock"]


def test_a_module_from_an_address_is_that_from_a_folder(
    choice, photos, module, web, grid
):
    served, address = module
    here = replace(choice, photos=str(photos), module=str(grid))
    there = replace(here, module=address)
    for split, mine in extract(here).items():
        assert np.array_equal(extract(there)[split].features, mine.features)
    assert served.asked == [None] and set(web.queries) == {"tf-hub-format=compressed"}
    (folder,) = cached(choice)
    assert without_notes(folder) == files_of(grid)
    shutil.rmtree(folder)
    load.cache_clear()
    extract(there)  # there is nothing to do, so the module is not needed
    assert served.asked == [None] and load.cache_info().currsize == 0


def test_the_cache_is_tf_hub_s(choice, module, tmp_path, monkeypatch):
    import tensorflow_hub as hub

    served, address = module
    describe(replace(choice, module=address))
    assert Path(hub.resolve(address)) == cached(choice)[0]
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "mine"))
    hub.resolve(address)  # TF Hub fetches it, and it is used
    asked = len(served.asked)
    describe(replace(choice, module=address, home=tmp_path / "other"))
    assert (
        len(served.asked) == asked and not (tmp_path / "other/modules/tfhub").exists()
    )


@pytest.mark.parametrize("lost", ["saved_model.pb", "variables", "*"])
@pytest.mark.parametrize("by_tf_hub", [False, True])
def test_a_broken_cache_is_mended(choice, module, lost, by_tf_hub):
    served, address = module
    choice = replace(choice, module=address)
    known = describe(choice)
    (folder,) = cached(choice)
    if by_tf_hub:
        (folder / fetch.MANIFEST).unlink()
    for path in list(folder.glob(lost)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    load.cache_clear()
    assert load(known.handle, known.stamp)(
        np.ones([1, 32, 32, 3], np.float32)
    ).shape == (
        1,
        48,
    )
    assert describe(choice) == known and len(served.asked) == 2
    assert fetch.is_whole(folder) and cached(choice) == [folder]


def test_a_module_that_is_cut_goes_on(choice, module):
    served, address = module
    served.cut = len(served.body) // 2 + 1
    assert describe(replace(choice, module=address)).features == 48
    assert served.sent == len(served.body)


def test_a_module_that_has_moved(choice, web, module):
    served, address = module
    served.cut = len(served.body) // 2 + 1
    web.serve("old/1", b"", to="m.tar.gz")
    choice = replace(choice, module=web.address("old/1"))
    assert describe(choice).features == 48 and served.sent == len(served.body)
    web.serve("round/1", b"", to="round/1")
    with pytest.raises(ModuleError, match="answers 302") as caught:
        describe(replace(choice, module=web.address("round/1")))
    assert sentence(caught)


@pytest.mark.parametrize("spoil", ["cut", "flip", "html"])
def test_a_corrupt_module(choice, module, spoil):
    served, address = module
    body = bytearray(served.body)
    body[-5] ^= 1  # in the checksum at the end
    served.body = {"cut": served.body[:-2000], "html": b"<html>", "flip": bytes(body)}[
        spoil
    ]
    with pytest.raises(ModuleError, match="no archive that can be used") as caught:
        describe(replace(choice, module=address))
    assert sentence(caught) and not cached(choice)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_no_link_in_a_module(choice, web, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("variables")
        info.type, info.linkname = kind, "/etc"
        archive.addfile(info)
    web.serve("m.tar.gz", buffer.getvalue())
    with pytest.raises(ModuleError, match="variables, which is a link") as caught:
        describe(replace(choice, module=web.address("m.tar.gz")))
    assert sentence(caught) and not cached(choice)


def test_no_network_for_a_module(choice):
    with pytest.raises(ModuleError, match="cannot be loaded.*no answer") as caught:
        describe(replace(choice, module="http://127.0.0.1:9/m/1"))
    assert sentence(caught)


@pytest.mark.parametrize(
    "handle",
    [
        "https://tfhub.dev/google/imagenet/inception_v3/classification/5",
        modules.KAGGLE + "resnet-v2/TensorFlow2/50-classification/2",
        modules.KAGGLE
        + "bit/frameworks/TensorFlow2/variations/s-r50x1-ilsvrc2012-classification"
        "/versions/1",
    ],
)
def test_a_classifier_is_known_by_its_handle(choice, handle):
    with pytest.raises(ModuleError, match="is a classifier.*feature vector") as caught:
        describe(replace(choice, module=handle))
    assert sentence(caught) and not choice.home.exists()


def test_a_classifier_is_suspected_by_its_numbers(choice, tmp_path, caplog):
    tf = modules.tensorflow()
    network = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3])])
    def call(images):
        return tf.zeros([tf.shape(images)[0], 1001])

    network.__call__ = call
    tf.saved_model.save(network, str(tmp_path / "classifier"))
    choice = replace(choice, module=str(tmp_path / "classifier"))
    assert describe(choice).features == 1001 and "classifiers do" in caplog.text


def test_the_old_format(choice, tmp_path):
    tf, folder = modules.tensorflow(), tmp_path / "old"
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 32, 32, 3])
        scale = v1.get_variable("scale", [], use_resource=True)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def(
            {"images": images}, {"default": scale * tf.reduce_mean(images, [1, 2])}
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, [], {"default": signature})
        builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    with pytest.raises(ModuleError, match="old format.*later version") as caught:
        describe(replace(choice, module=str(folder)))
    assert sentence(caught)


def test_the_table():
    assert list(KNOWN)[0] == "toy"
    for word, known in KNOWN.items():
        assert known.size and known.features and known.reported, word
        assert modules.trained_size(known.handle) == known.size
        embedded = not known.megabytes
        assert embedded or known.handle.startswith((modules.HUB, modules.KAGGLE))


@pytest.mark.parametrize(
    ("handle", "size"),
    [
        ("https://tfhub.dev/google/imagenet/inception_v3/feature_vector/4", 299),
        (modules.KAGGLE + "inception-v3/tensorFlow2/feature-vector/2", 299),
        (
            modules.KAGGLE + "inception-v3/frameworks/tensorFlow2/variations/"
            "feature-vector/versions/2?tfhub-redirect=true",
            299,
        ),
        ("https://tfhub.dev/google/bit/m-r50x1/1", 224),
        ("https://tfhub.dev/google/bit/m-r50x3/1", None),
        ("https://tfhub.dev/", None),
        ("/a/folder", None),
    ],
)
def test_the_size_of_a_handle_in_any_spelling(handle, size):
    assert modules.trained_size(handle) == size


def test_the_size_comes_from_the_table_last(choice, web, colours, module, monkeypatch):
    web.serve("any.tar.gz", tarred(colours))
    for name, table, size in (("any.tar.gz", 40, 40), ("m.tar.gz", 40, 32)):
        known = modules.Known(web.address(name), table, 6, 1, "nothing")
        monkeypatch.setitem(KNOWN, "mine", known)
        mine = replace(choice, module="mine", home=choice.home / name)
        assert input_size(mine) == size
        assert input_size(replace(mine, module=known.handle)) == size
    assert input_size(replace(mine, size=32)) == 32


def test_the_toy_is_as_the_table_says(choice):
    if not KNOWN["toy"].handle or not Path(KNOWN["toy"].handle).is_dir():
        pytest.skip("the toy module is not there")
    known = describe(choice)
    assert (known.size, known.features) == (KNOWN["toy"].size, KNOWN["toy"].features)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real photos and module here")
def test_the_real_module_over_http(web, tmp_path):
    folder = REAL / "modules" / "mobilenet_v2_100_224"
    web.serve("m.tar.gz", tarred(folder))
    for split in ("train", "validation", "test"):
        for breed in ("hat", "shoes"):
            photos = sorted((REAL / "clothing-small" / split / breed).iterdir())[:3]
            home = tmp_path / "some" / split / breed
            home.mkdir(parents=True)
            for photo in photos:
                shutil.copy(photo, home)
    here = Choice(str(tmp_path / "some"), str(folder), None, tmp_path / "home")
    there = replace(here, module=web.address("m.tar.gz"))
    mine, theirs = extract(here), extract(there)
    for split in mine:
        assert np.array_equal(mine[split].features, theirs[split].features)


# --- the command line ----------------------------------------------------------------


def test_fetch_says_what_to_carry_over(choice, dogs, module, monkeypatch, capsys):
    served, address = module
    dogs()
    words = ["--photos", "dogs", "--module", address, "--home", str(choice.home)]
    assert main(["fetch", *words]) == 0
    out = capsys.readouterr().out
    assert str(choice.home / "photos" / "dogs") in out and str(cached(choice)[0]) in out
    assert out.splitlines()[-1].endswith(f": {choice.home}")
    monkeypatch.setenv("DOGTL_DOGS_URL", "")
    served.answers = [404] * 9
    elsewhere = shutil.copytree(choice.home, choice.home.with_name("elsewhere"))
    load.cache_clear()
    words[-1] = str(elsewhere)
    assert main(["extract", *words]) == 0 and len(served.asked) == 1


def test_from_nothing_to_an_accuracy(choice, dogs, module, capsys):
    dogs()
    words = ["--photos", "dogs", "--module", module[1], "--home", str(choice.home)]
    assert main(["run", *words]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("accuracy ")
    assert "fetching" in captured.err and "fetching" not in captured.out


SLOW_RUN = (
    SLOW
    + """
import sys
import dogtl.bottlenecks
compute = dogtl.bottlenecks.features_of
def features_of(*arguments):
    for batch in compute(*arguments):
        time.sleep(0.5)
        yield batch
dogtl.bottlenecks.features_of = features_of
from dogtl.cli import main
sys.exit(main(sys.argv[1:]))
"""
)


AT_ONCE = """
import sys
from dogtl.cli import main
assert main(sys.argv[1:]) == 0
assert not {"tensorflow", "PIL", "matplotlib", "tqdm"} & set(sys.modules)
"""


def test_a_run_that_is_killed_three_times(choice, dogs, module, archive, capsys):
    web = [dogs(pause=0.02), module[0]]
    words = ["--photos", "dogs", "--module", module[1], "--home", str(choice.home)]
    half, part = (
        choice.home / "photos" / f"dogs{end}" for end in (".archive", ".part")
    )
    stages = (
        lambda: half.exists() and half.stat().st_size > 5000,
        lambda: list(part.rglob("*.jpg")),
        lambda: list(choice.home.glob("bottlenecks/**/train.rows")),
    )
    for come_so_far in stages:
        kill_once(python(SLOW_RUN, "run", *words), come_so_far)
        web[0].pause = 0
    assert main(["run", *words]) == 0
    disturbed = capsys.readouterr().out
    assert len(web[0].asked) == 2 and web[0].asked[1].startswith("bytes=")
    assert web[1].asked == [None]
    assert not [f for f in choice.home.rglob("*") if f.suffix in (".part", ".archive")]
    again = python(AT_ONCE, "run", *words)
    assert again.communicate(timeout=120)[0] == disturbed and again.returncode == 0
    words[-1] = str(choice.home.with_name("undisturbed"))
    assert main(["run", *words]) == 0
    assert disturbed.replace("home", "undisturbed") == capsys.readouterr().out


def test_a_sentence_on_the_command_line(choice, monkeypatch, capsys):
    monkeypatch.setenv("DOGTL_DOGS_URL", "http://127.0.0.1:9/dogs.zip")
    assert main(["run", "--photos", "dogs", "--home", str(choice.home)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dogtl: http://127.0.0.1:9/dogs.zip gives no")
    assert err.count("\n") == 1
