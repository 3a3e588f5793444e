"""Real photos through a real module, where they lie beside the checkout."""

from pathlib import Path

import numpy as np
import pytest

import dogtl
from dogtl.modules import describe, load
from dogtl.photos import read_photo
from dogtl.squares import make_square

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"
PHOTOS, MODULE = REAL / "clothing-small", REAL / "modules" / "mobilenet_v2_100_224"

pytestmark = pytest.mark.skipif(
    not (PHOTOS.is_dir() and MODULE.is_dir()),
    reason="no real photos and module in ../shared/real",
)


@pytest.fixture(scope="module")
def choice(tmp_path_factory):
    """The real photos and the real module, with a home of their own."""
    return dogtl.choose(PHOTOS, MODULE, home=tmp_path_factory.mktemp("real"))


def test_accuracy_on_real_photos(choice):
    result = dogtl.evaluate(choice)
    assert (len(result.labels), len(result.breeds)) == (214, 10)
    assert result.n_left_out == 0
    assert result.accuracy >= 0.82  # one photo is half a point


def test_squares_as_jpeg_predict_as_lossless_ones_do(choice):
    squares, layer = dogtl.square(choice), dogtl.train(choice)
    as_jpeg = dogtl.evaluate(choice).guesses
    module = describe(choice)
    network = load(module.handle, module.stamp)
    features = []
    for path in squares.paths["test"]:
        square = make_square(read_photo(squares.photos / path), squares.size)
        pixels = np.asarray(square, dtype=np.float32)[np.newaxis] / 255
        features.append(network(pixels).numpy())
    lossless = layer.probabilities(np.concatenate(features)).argmax(axis=1)
    assert (lossless != as_jpeg).mean() <= 0.03
