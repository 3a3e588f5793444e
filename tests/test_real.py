"""Real photos through a real module, where they lie beside the checkout."""

from pathlib import Path

import numpy as np
import pytest
from conftest import all_steps

import dogtl

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
PHOTOS, MODULE = REAL / "clothing-small", REAL / "modules" / "mobilenet_v2_100_224"

pytestmark = pytest.mark.skipif(
    not (PHOTOS.is_dir() and MODULE.is_dir()),
    reason="no real photos and module in ../shared/real",
)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """All steps on real photos with a real module, in a home of their own."""
    return all_steps(PHOTOS, MODULE, home=tmp_path_factory.mktemp("real"))


def test_accuracy_on_real_photos(real):
    evaluation = real.evaluation
    assert (len(evaluation.labels), len(evaluation.breeds)) == (214, 10)
    assert not any(real.squares.skipped.values())
    assert evaluation.accuracy >= 0.82  # one photo is half a point


def test_squares_as_jpeg_predict_as_lossless_ones_do(real):
    features = []
    for path in real.squares.paths["test"]:
        square = dogtl.make_square(dogtl.read_photo(path), real.module.size)
        pixels = np.asarray(square, dtype=np.float32)[np.newaxis] / 255
        features.append(real.module(pixels))
    lossless = real.layer.probabilities(np.concatenate(features)).argmax(axis=1)
    assert (lossless != real.evaluation.predictions).mean() <= 0.03
