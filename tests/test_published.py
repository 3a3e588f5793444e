"""The published figures: their numbers made afresh, and drawn again from their CSV."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dogtl import figures

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "notebooks"))
import execute  # noqa: E402

FIGURES = ROOT / "figures"
TABLES = sorted(FIGURES.glob("*.csv"))
EACH = pytest.mark.parametrize("file", TABLES, ids=lambda file: file.stem)
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")
# Where the notebooks left their figures when `make test` ran them.
FRESH = os.environ.get("DOGTL_FRESH")
# Arithmetic may move a number in its third digit, and a trained result by three photos.
TOLERANCE = 0.03


def test_every_figure_has_a_caption_and_every_caption_its_figure():
    captions = execute.read_captions()
    for suffix in ("png", "pdf"):
        assert {file.stem for file in FIGURES.glob(f"*.{suffix}")} == set(captions)
    assert {file.stem for file in TABLES} < set(captions)
    page = (FIGURES / "README.md").read_text("utf-8")
    for name, caption in captions.items():
        assert f"({name}.png)" in page and caption in page
    assert len(captions) >= 12


def test_they_are_ready_to_print():
    for file in FIGURES.glob("*.png"):
        with Image.open(file) as image:
            assert np.allclose(image.info["dpi"], 300, atol=0.1)
            width = image.width / 300
        widths = (figures.COLUMN_WIDTH, figures.PAGE_WIDTH)
        assert np.isclose(width, widths, atol=0.01).any(), file
    assert sum(file.stat().st_size for file in FIGURES.iterdir()) < 10e6


@pytest.mark.skipif(
    f"\nmatplotlib=={version('matplotlib')}\n" not in CONSTRAINTS,
    reason="another matplotlib is here",
)
@EACH
def test_drawn_again_from_its_csv_it_has_the_same_bytes(file, tmp_path):
    figures.redraw(file, tmp_path)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    fresh = (tmp_path / file.name).with_suffix(".png").read_bytes()
    assert fresh == file.with_suffix(".png").read_bytes()


@pytest.mark.skipif(not FRESH, reason="only after the notebooks, as `make test` does")
@EACH
def test_made_afresh_its_numbers_are_the_committed_ones(file):
    committed, fresh = (
        figures.read_table(folder / file.name) for folder in (FIGURES, Path(FRESH))
    )
    assert committed.keys() == fresh.keys()
    if file.stem == "training_curves":
        # the number of epochs hangs on the last digit, the lowest loss does not
        lowest = [min(table["valid_loss"]) for table in (committed, fresh)]
        assert np.isclose(*lowest, atol=TOLERANCE)
    elif file.stem in ("confused_pairs", "predictions"):
        # the order of equals hangs on the last digit, the first row does not
        assert committed["breed"][0] == fresh["breed"][0]
        number = "photos" if "photos" in fresh else "probability"
        most = max(TOLERANCE, 3 * (number == "photos"))
        assert abs(committed[number][0] - fresh[number][0]) <= most
    else:
        for name, column in committed.items():
            if isinstance(column[0], str):
                assert column == fresh[name], name
            elif file.stem == "per_breed" and name != "photos":
                few = 2 if name == "correct" else 2 / min(committed["photos"])
                assert np.allclose(column, fresh[name], atol=few), name
            elif file.stem == "confusion":
                assert np.abs(np.subtract(column, fresh[name])).sum() <= 6
            else:
                spread = max(1.0, np.abs(column).max())
                assert np.allclose(column, fresh[name], atol=TOLERANCE * spread), name
