"""What the tests share: photos drawn from nothing, and small modules exported."""

import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from http_server import Server
from light import Means, die_at  # noqa: F401 (other files take them from here)
from PIL import Image

import dogtl
from dogtl import download
from dogtl.base import log

matplotlib.use("Agg")  # not the variable, which would reach the notebooks' kernels

# a breed, as it would be called to run a script on a page that names it
HOSTILE = "a ](x.png) <svg onload=alert(1)> ![b"
SUFFIXES = (".jpg", ".png", ".jpeg", ".bmp", ".tif", ".webp", ".gif", ".JPG")
SIZES = ((70, 50), (41, 64), (32, 32), (33, 90), (120, 48))
COUNTS = {"train": (9, 7, 8), "valid": (4, 3, 5), "test": (5, 6, 4)}
BREEDS = ("001.Red_setter", "002.Grass_hound", "003.Striped_pointer")
HOME = os.environ.get("DOGTL_HOME")  # `make test` shares one kennel with the notebooks


def pytest_addoption(parser):
    about = "the long versions too: 200 kills, thousands of damaged files"
    parser.addoption("--all", action="store_true", help=about)


@pytest.fixture(scope="session")
def thorough(request) -> bool:
    """Whether the long version of a test is wanted."""
    return request.config.getoption("--all")


@pytest.fixture(scope="session", autouse=True)
def no_variables():
    """No variable of whoever runs the tests reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PHOTOS", "MODULE", "SIZE", "DOGS_URL", "STYLE"):
            patch.delenv(f"DOGTL_{name}", raising=False)
        patch.setenv("TQDM_DISABLE", "1")
        yield


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """An empty home of the test's own, and an empty current folder."""
    monkeypatch.setenv("DOGTL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOGTL_FIGURES", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def logs(monkeypatch):
    """What a command does to the log stays with its test."""
    monkeypatch.setattr(logging.root, "handlers", logging.root.handlers[:])
    monkeypatch.setattr(log, "level", log.level)


def all_steps(photos=None, module=None, size=None, home=None):
    """Everything from photos to an evaluation, as attributes."""
    made = SimpleNamespace(home=home)
    made.photos = dogtl.load_photos(photos, home)
    made.module = dogtl.load_module(module, size, home)
    made.squares = dogtl.square(made.photos, made.module.size, home)
    made.bottlenecks = dogtl.extract(made.squares, made.module, home)
    made.layer = dogtl.train(made.bottlenecks, home)
    made.evaluation = dogtl.evaluate(made.layer, made.bottlenecks["test"])
    return made


@pytest.fixture(scope="session")
def kennel(no_variables, tmp_path_factory):
    """All steps on the kennel with the toy; drawn once for the tests that need it."""
    return all_steps(home=Path(HOME) if HOME else tmp_path_factory.mktemp("kennel"))


def draw(breed: int, size: tuple[int, int], rng) -> Image.Image:
    """A noisy photo of a breed; colour and, from the third on, stripes tell them."""
    width, height = size
    colour = [(200, 60, 50), (60, 180, 70), (90, 90, 190), (30, 30, 30)][breed % 4]
    pixels = np.full((height, width, 3), colour, float)
    if breed >= 2:
        pixels[:, np.arange(width) % 12 < 4] = (230, 220 - 40 * (breed // 4), 60)
    pixels += rng.normal(0, 12, pixels.shape) + rng.normal(0, 15, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_photos(folder, breeds=BREEDS, counts=COUNTS, valid="valid", seed=0):
    """Fill a folder with photos of many formats and sizes; gives it back."""
    rng = np.random.default_rng(seed)
    for split, numbers in counts.items():
        for breed, number in enumerate(numbers):
            home = folder / {"valid": valid}.get(split, split) / breeds[breed]
            home.mkdir(parents=True)
            for i in range(number):
                name = f"dog_{i:02}{SUFFIXES[i % len(SUFFIXES)]}"
                draw(breed, SIZES[(i + breed) % len(SIZES)], rng).save(home / name)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Photos of three breeds. They are shared: tests that change them take a copy."""
    return draw_photos(tmp_path_factory.mktemp("photos") / "dogs")


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Fewer photos of the same breeds, for commands; they are shared as well."""
    counts = {"train": (2, 2, 2), "valid": (1, 1, 1), "test": (2, 2, 1)}
    return draw_photos(tmp_path_factory.mktemp("few") / "dogs", counts=counts)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Photos of seven breeds, with ``validation`` instead of ``valid``."""
    breeds = [f"{i:03}.Breed_{i}" for i in range(7)]
    counts = dict.fromkeys(COUNTS, (3,) * 7)
    return draw_photos(
        tmp_path_factory.mktemp("many") / "dogs", breeds, counts, "validation", seed=1
    )


@pytest.fixture
def mine(photos, tmp_path):
    """A copy of the photos, with their times, that a test may change."""
    return shutil.copytree(photos, tmp_path / "mine")


def export(folder, kind, **options):
    """Export a small module of that kind, a class of `networks`; gives its folder."""
    tf = dogtl.import_tensorflow()
    tf.saved_model.save(getattr(networks(), kind)(**options), str(folder))
    return folder


def networks():
    """Small networks, each with what one kind of module has or lacks."""
    tf = dogtl.import_tensorflow()
    grid_input = [tf.TensorSpec([None, 32, 32, 3])]

    class Grid(tf.Module):
        """48 features, the mean colours of a 4 x 4 grid; counts the squares seen."""

        def __init__(self, scale=1.0):
            super().__init__()
            self.seen, self.scale = tf.Variable(0), tf.Variable(scale)

        @tf.function(input_signature=grid_input)
        def __call__(self, images):
            self.seen.assign_add(tf.shape(images)[0])
            cells = tf.nn.avg_pool2d(images, 8, 8, "VALID")
            return self.scale * tf.reshape(cells, [-1, 48])

    class Colours(tf.Module):
        """6 features of squares of any size: each colour's mean and spread."""

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
        def __call__(self, images):
            mean, variance = tf.nn.moments(images, [1, 2])
            return tf.concat([mean, tf.sqrt(variance + 1e-6)], axis=1)

    class Uncallable(tf.Module):
        @tf.function(input_signature=grid_input)
        def features(self, images):
            return tf.reduce_mean(images, [1, 2])

    kinds = (Grid, Colours, Uncallable)
    return SimpleNamespace(**{kind.__name__: kind for kind in kinds})


@pytest.fixture(scope="session")
def grid(tmp_path_factory):
    """A module with a fixed input of 32 x 32 pixels and 48 features."""
    return export(tmp_path_factory.mktemp("modules") / "grid", "Grid")


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """A module with an input of any size and 6 features."""
    return export(tmp_path_factory.mktemp("modules") / "colours", "Colours")


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory):
    """A small network of 32 x 32 pixels and 5 features, as Keras saves it."""
    dogtl.import_tensorflow()
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(5, 3, activation="relu")]
    layers += [keras.layers.BatchNormalization(), keras.layers.GlobalMaxPooling2D()]
    file = tmp_path_factory.mktemp("keras") / "mine.keras"
    with warnings.catch_warnings(action="ignore"):  # Keras' own
        keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(file)
    return file


def random_layer(module) -> dogtl.LinearLayer:
    """A layer that was never trained, for any module."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(module.n_features, 4)).astype(np.float32)
    made_by = {"name": module.name, "fingerprint": module.fingerprint}
    return dogtl.LinearLayer(kernel, np.zeros(4, np.float32), [*"abcd"], made_by, 0, {})


@pytest.fixture
def seen(monkeypatch):
    """The squares that modules see during a test; to be cleared between steps."""
    files, extract_features = [], dogtl.bottlenecks.extract_features

    def record(some, module):
        files.extend(some)
        return extract_features(some, module)

    monkeypatch.setattr(dogtl.bottlenecks, "extract_features", record)
    return files


@pytest.fixture(scope="session")
def done(photos, grid, tmp_path_factory):
    """All steps on the shared photos, in a home that tests must copy to change it."""
    return all_steps(photos, grid, home=tmp_path_factory.mktemp("done"))


@pytest.fixture(scope="session")
def seven(many, colours, tmp_path_factory):
    """All steps on seven breeds with squares of 24 pixels; shared as well."""
    return all_steps(many, colours, 24, home=tmp_path_factory.mktemp("seven"))


@pytest.fixture
def web(monkeypatch):
    """A server on this machine; downloads don't wait before they ask it again."""
    monkeypatch.setattr(download, "PAUSE", 0)
    with Server() as server:
        yield server


def sentence(text: object) -> str:
    """The text of an error: one line for people, without a word from Python."""
    text = str(getattr(text, "value", text)).removesuffix("\n")
    assert text and "\n" not in text, text
    assert not re.search(r"\wError\b|Traceback|Errno", text), text
    return text


def files_of(folder) -> dict[str, bytes]:
    """All files below a folder with their bytes, the download's lock aside."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in files
        if file.name != ".lock"
    }


def times_of(folder) -> dict[str, tuple[int, int]]:
    """All files below a folder with what changes when they are written again."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    stats = {str(file): file.stat() for file in files if file.name != ".lock"}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def python(code: str, *arguments: object) -> subprocess.Popen:
    """Another Python that runs some code, with its output in pipes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
