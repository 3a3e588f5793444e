"""The code that closes each lesson needs no dogtl, and gives what dogtl gives.

The seven blocks are run one after another on a few photos of the kennel, as a reader
would run them, except that Keras' networks are smaller and get random weights.
"""

import json
import re
import shutil
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import dogtl

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("0*.ipynb"))
BREEDS = ("004.Beagle", "010.Poodle", "011.Pug")
COUNTS = {"train": 6, "valid": 3, "test": 4}  # of each breed
# Smaller networks that take the same values, from -1 to 1 and from 0 to 255
SIMILAR = {"MobileNetV2": "MobileNet", "EfficientNetB0": "MobileNetV3Small"}
# Keras turns its arrays to NumPy's in a way that NumPy is about to give up.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def block(file: Path) -> str:
    """The code block that closes a lesson."""
    cells = json.loads(file.read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    section = text.partition("## Without dogtl, on your own photos")[2]
    return re.search(r"```python\n(.+?)```", section, re.S)[1]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_is_short_and_needs_no_dogtl(file):
    lines = [line for line in block(file).splitlines() if line.strip()]
    assert 15 <= len(lines) <= 25 and max(map(len, lines)) <= 88
    assert "dogtl" not in block(file)


@cache  # the blocks share it: building it and tracing its functions takes longest
def untrained(build, **options):
    """A network of Keras with random weights whose features vary as trained ones do.

    Without a look at some pictures its normalization would shrink them to nothing.
    """
    from keras import layers

    network = build(weights=None, **options)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    pictures = np.random.default_rng(0).uniform(-1, 1, (8, 14, 14, 3))
    network(pictures.repeat(16, axis=1).repeat(16, axis=2), training=True)
    return network


@pytest.fixture(scope="module")
def ran(kennel, tmp_path_factory):
    """The folder that the blocks worked in, the variables that each one left, the
    stored features, and the head: the layer that lesson 3's block saved."""
    folder, names = tmp_path_factory.mktemp("own"), []
    for split, paths in kennel.photos.paths.items():
        for breed in BREEDS:
            place = folder / "photos" / split / breed
            place.mkdir(parents=True)
            mine = [path for path in paths if path.parent.name == breed]
            for path in mine[: COUNTS[split]]:
                shutil.copy(path, place)
    shutil.copy(mine[0], folder / "my_photo.jpg")
    dogtl.import_tensorflow()
    from keras import applications, models, utils

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, similar in SIMILAR.items():
            build = getattr(applications, similar)
            patch.setattr(applications, name, partial(untrained, build))
        for file in NOTEBOOKS:
            utils.set_random_seed(0)  # so that each block has the same network
            names.append({})
            exec(compile(block(file), file.stem, "exec"), names[-1])
    data, head = (
        np.load(folder / "features.npz"),
        models.load_model(folder / "head.keras"),
    )
    return SimpleNamespace(folder=folder, names=names, data=data, head=head)


def test_squares_are_those_of_dogtl(ran):
    folder, side = ran.folder, ran.names[0]["SIZE"]
    photos = sorted((folder / "photos").glob("*/*/*"))
    squares = sorted((folder / "squares").glob("*/*/*"))
    expected = {path.relative_to(folder / "photos") for path in photos}
    assert {path.relative_to(folder / "squares") for path in squares} == expected
    for path, square in zip(photos, squares, strict=True):
        with Image.open(square) as made:
            assert (made.size, made.mode) == ((side, side), "RGB")
            pixels = np.asarray(made, dtype=int)
        ours = dogtl.make_square(dogtl.read_photo(path), side)
        assert np.abs(pixels - np.asarray(ours, dtype=int)).mean() < 3  # a JPEG


def test_features_are_those_of_the_network(ran):
    stored, backbone = ran.data, ran.names[1]["backbone"]
    assert stored["classes"].tolist() == list(BREEDS)
    for split, count in COUNTS.items():
        files = sorted((ran.folder / "squares" / split).glob("*/*.jpg"))
        labels = [BREEDS.index(file.parent.name) for file in files]
        assert stored[f"{split}_y"].tolist() == labels == sorted([0, 1, 2] * count)
        pixels = np.stack([dogtl.read_square(file) for file in files])
        batch = pixels.astype(np.float32) / 127.5 - 1
        features = np.asarray(backbone(batch, training=False))
        assert features.std() > 0.01
        np.testing.assert_allclose(stored[f"{split}_x"], features, rtol=1e-3, atol=1e-4)


def test_the_head_learns_what_a_linear_layer_learns(ran):
    data = ran.data
    facts = list(BREEDS), [], {}, {"name": "any", "fingerprint": "any"}
    train, valid = (
        dogtl.Bottlenecks(data[f"{split}_x"], data[f"{split}_y"], *facts)
        for split in ("train", "valid")
    )
    probabilities = ran.head.predict(data["valid_x"], verbose=0)
    loss = dogtl.cross_entropy(np.log(probabilities), data["valid_y"])
    assert np.isclose(loss, ran.names[2]["loss"], atol=1e-3)
    lowest = dogtl.fit(train, valid).history["valid_loss"].min()
    assert loss < 1.5 * lowest + 0.2


def test_the_evaluation_is_that_of_dogtl(ran):
    names, labels = ran.names[3], ran.data["test_y"]
    probabilities = ran.head.predict(ran.data["test_x"], verbose=0)
    paths = [Path("a.jpg")] * len(probabilities)
    evaluation = dogtl.Evaluation(probabilities, labels, list(BREEDS), paths)
    assert np.isclose(names["accuracy"], evaluation.accuracy)
    assert np.allclose(names["interval"], evaluation.interval, atol=1e-4)
    assert np.array_equal(names["confusion"], evaluation.confusion)
    assert np.allclose(names["recall"], dogtl.per_breed(evaluation)["accuracy"])
    assert 0 <= names["ece"] <= 1


def test_a_photo_gets_the_probabilities_that_its_row_has(ran):
    names, stored = ran.names[4], ran.data["test_x"]
    row = sum(COUNTS["test"] for breed in BREEDS[:-1])  # the last breed's first photo
    features, probabilities = names["features"], names["probabilities"]
    scale = np.abs(stored).max()
    np.testing.assert_allclose(features[0], stored[row], atol=1e-2 * scale)
    expected = ran.head.predict(features, verbose=0)[0]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3)


def test_two_backbones_are_compared_by_mcnemar_s_test(ran):
    names = ran.names[5]
    first, second = names["correct"].values()
    assert list(names["correct"]) == ["MobileNetV2", "EfficientNetB0"]
    assert len(first) == len(second) == COUNTS["test"] * len(BREEDS)
    assert names["p_value"] == dogtl.mcnemar_test(first, second)


def test_an_occlusion_map_shows_what_the_prediction_depends_on(ran):
    names = ran.names[6]
    with Image.open(ran.folder / "my_square.jpg") as image:
        square = np.asarray(image, np.float32)
    covered, (row, column) = square.copy(), divmod(names["heat"].argmax(), 7)
    cell = slice(32 * row, 32 * row + 32), slice(32 * column, 32 * column + 32)
    covered[cell] = square.mean(axis=(0, 1))
    batch = np.stack([square, covered]) / 127.5 - 1
    rows = ran.head.predict(names["backbone"].predict(batch, verbose=0), verbose=0)
    log_p = np.log(rows[:, rows[0].argmax()] + 1e-9)
    assert names["heat"].shape == (7, 7) and names["heat"].min() >= 0
    assert np.isclose(names["heat"].max(), max(0, log_p[0] - log_p[1]), atol=1e-3)
