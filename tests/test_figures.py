"""Figures draw from few and many breeds, and are saved the same way every time."""

import base64
import io
import re
import subprocess
import sys
import zlib
from html import unescape
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import files_of
from matplotlib.colors import to_rgb
from PIL import Image

import dogtl
from dogtl import figures


def evaluation(breeds: int, wrong: float = 0.3, names=None) -> dogtl.Evaluation:
    """An evaluation made up, with three photos a breed."""
    rng = np.random.default_rng(breeds)
    labels = np.repeat(np.arange(breeds), 3)
    probabilities = rng.dirichlet(np.ones(breeds), len(labels))
    correct = rng.random(len(labels)) >= wrong
    probabilities[correct, labels[correct]] += 1
    probabilities[0, -1] += 5 if wrong else 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = names or [f"{i:03}.Breed_of_{i}" for i in range(breeds)]
    paths = [Path(f"test/{names[label]}/{i}.jpg") for i, label in enumerate(labels)]
    return dogtl.Evaluation(probabilities.astype(np.float32), labels, names, paths)


def curves(epochs: int = 30) -> dict:
    falling = np.exp(-np.arange(epochs) / 9)
    table = {"epoch": list(range(1, epochs + 1)), "train_loss": falling.tolist()}
    table["valid_loss"] = (0.2 + falling).tolist()
    table["train_accuracy"] = (1 - falling / 2).tolist()
    table["valid_accuracy"] = (0.9 - falling / 2).tolist()
    return {**table, "best": [0] * (epochs - 1) + [1]}


def tables(n: int, *how) -> dict[str, dict]:
    """A table for each figure that draws one, of `n` breeds, epochs and so on."""
    some = evaluation(n, *how)
    line = np.linspace(0.1, 0.9, n)
    accuracies = {"train_accuracy": line, "valid_accuracy": line / 2}
    few = {name: values[:9] for name, values in accuracies.items()}
    interval = {"accuracy": line, "low": line - 0.1, "high": line + 0.1}
    names, chance = some.breeds, {"chance": [0.1] * n}
    modules = interval | {"module": names, "pareto": [i % 2 for i in range(n)]}
    modules |= dict.fromkeys(("multiply_adds", "parameters"), [10**6] * n)
    methods = interval | {"method": [names[i // 2] for i in range(n)]}
    methods["photos"] = [1 + i % 2 for i in range(n)]
    wilson = {"truth": line, "low": line - 1, "high": line + 1}
    return {
        "cropped_away": {"low": line, "high": line + 0.8 / n, "photos": [3] * n},
        "one_bottleneck": {"feature": range(n), "value": line},
        "pca_map": {"x": line, "y": line, "breed": names},
        "training_curves": curves(n),
        "l2_penalty": {"l2": (line - 0.1)[:9], **few},
        "learning_curve": {"photos": range(10, 10 + n), **accuracies},
        "interval_width": {"photos": range(1, n + 1), **interval},
        "per_breed": dogtl.per_breed(some),
        "confusion": dogtl.confusion_table(some),
        "confused_pairs": dogtl.confused_pairs(some),
        "calibration": {"confidence": line, **interval},
        "compare_modules": modules | chance,
        "transfer_curve": methods | chance,
        "counterfactuals": {"change": names, "share": line} | interval,
        "wilson_picture": wilson | {"observed": [line[-1]] * n},
        "predictions": {"breed": names[:9], "probability": line[:9]},
    }


def texts(figure) -> list[str]:
    found = figure.findobj(matplotlib.text.Text)
    return [text.get_text() for text in found if text.get_text()]


def saved(figure, folder) -> None:
    figure.savefig(folder / "figure.png", dpi=60)  # fewer dots than print needs
    with Image.open(folder / "figure.png") as image:
        assert min(image.size) > 40
        assert np.asarray(image.convert("L")).std() > 1  # something is drawn


NAMES = sorted(tables(2))
CASES = [(name, n) for name in NAMES for n in (2, 133)]
CASES.remove(("confusion", 133))  # nobody could read it: the command line skips it
OF_MISTAKES = ("per_breed", "confusion", "confused_pairs")


def test_no_figure_is_forgotten_here():
    assert figures.FIGURES.keys() == {*NAMES, "gallery"}


@pytest.mark.parametrize(("name", "n"), CASES)
def test_every_figure_draws_for_few_and_many_and_says_what(tmp_path, name, n):
    table = tables(n)[name]
    figure = getattr(figures, name)(table)
    saved(figure, tmp_path)
    assert plt.get_fignums() == []
    assert figure.alt[0].isupper() and "`" not in figure.alt
    text = figures.alt_text(name, table, "A caption.")
    assert text.startswith("A caption.") and (text[-1] == "." or name == "pca_map")
    assert (name == "pca_map") != bool(re.search(r"\d", text))


@pytest.mark.parametrize("name", OF_MISTAKES)
def test_every_figure_of_mistakes_draws_without_one(tmp_path, name):
    saved(getattr(figures, name)(tables(3, 0)[name]), tmp_path)


@pytest.mark.parametrize(("breeds", "wrong"), [(2, 0.3), (12, 0.3), (3, 0)])
def test_the_gallery_of_errors(tmp_path, breeds, wrong):
    table = dogtl.most_confident_errors(evaluation(breeds, wrong))
    images = [np.zeros((32, 32))] * len(table["photo"])
    figure = figures.most_confident_errors(images, table)
    figures.save(figure, "errors", tmp_path)
    said = " ".join(texts(figure))
    assert bool(images) == bool(wrong)
    assert all(f"{confidence:.0%}" in said for confidence in table["confidence"])


@pytest.mark.parametrize("name", [*OF_MISTAKES, "pca_map"])
def test_breeds_of_one_name_keep_a_row_of_their_own(name):
    table = tables(4, 0.9, ["001.Pug", "002.Pug", "003.Afghan_hound", "a.b_c"])[name]
    said = " ".join(texts(getattr(figures, name)(table)))
    assert "001 Pug" in said and "002 Pug" in said
    assert "Afghan hound" in said and "a.b c" in said and "003" not in said


@pytest.mark.parametrize("photos", [[37, 41, 0, 59], [3, 1, 0, 0]])
def test_the_confusion_shows_its_numbers_and_tells_of_mistakes(photos):
    table = {"breed": list("aabb"), "prediction": list("abab"), "photos": photos}
    figure = figures.confusion(table)
    shown = {str(number) for number in photos if number}
    assert shown | {"a", "b"} <= set(texts(figure))
    assert figure.alt.endswith(f"Highest photos {photos[1]}, breed a, prediction b.")
    right = {name: column[::3] for name, column in table.items()}
    assert "Highest" not in figures.alt_text("confusion", right)  # no mistake


def test_modules_stand_in_the_order_of_accuracy_with_their_costs():
    table = {"module": ["small", "large", "odd"], "multiply_adds": [17e6, 13.2e9, 0]}
    table |= {"parameters": [162_376, 54e6, 2e6], "accuracy": [0.6, 0.9, 0.3]}
    table |= {"low": [0.5, 0.8, 0.2], "high": [0.7, 0.95, 0.4], "chance": [0.1] * 3}
    figure = figures.compare_modules(table | {"pareto": [1, 1, 0]})
    (axis,) = figure.axes
    rows = [text.get_text() for text in axis.get_yticklabels()]
    assert rows == ["odd", "small", "large"]
    costs = {"17", "0.16", "13,200", "54.00", "?", "2.00"}
    assert costs | {"chance"} <= set(texts(figure))
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [dot.get_xdata()[0] for dot in dots] == [0.3, 0.6, 0.9]
    fills = [lightness(to_rgb(dot.get_markerfacecolor())) for dot in dots]
    assert fills == pytest.approx([1, 0, 0])  # open: beaten


def test_a_gallery_shows_every_image_with_its_caption_and_its_row():
    images = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(4)]
    labels = ["photo", "its nearest"]
    figure = figures.gallery(images, list("abcd"), 2, rows=labels)
    assert [axis.get_xlabel() for axis in figure.axes] == list("abcd")
    assert [axis.get_ylabel() for axis in figure.axes] == [labels[0], "", labels[1], ""]
    shown = [np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes]
    assert np.array_equal(shown, images)
    assert figure.alt == "4 images in rows (photo, its nearest): a; b; c; d"


# --- saved -------------------------------------------------------------------------


def test_png_of_300_dpi_and_pdf_with_its_fonts(tmp_path):
    with plt.rc_context({"font.size": 17, "pdf.fonttype": 3}):  # the reader's own
        figure = figures.training_curves(curves())
        assert figures.save(figure, "curves", tmp_path) is figure
        assert plt.rcParams["font.size"] == 17 and plt.rcParams["pdf.fonttype"] == 3
    assert files_of(tmp_path).keys() == {"curves.pdf", "curves.png"}
    with Image.open(tmp_path / "curves.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.width == pytest.approx(figures.PAGE_WIDTH * 300, abs=2)
    pdf = (tmp_path / "curves.pdf").read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    for stream in streams:
        try:
            pdf += zlib.decompress(stream)
        except zlib.error:
            continue
    assert b"FontFile2" in pdf and b"/Type3" not in pdf.replace(b" ", b"")


def test_the_table_can_be_read_back_whatever_its_names(tmp_path):
    names = [r"$\nonsense$", "a,b", 'say "hound"', "two\nlines", "Ünï", "caf\udce9"]
    names += ["007", "1e3"]
    table = {"breed": names, "photos": [2] * 8, "accuracy": [0.5] * 7 + [1 / 3]}
    table |= {"low": [0.1] * 7 + [0.0], "high": [0.9] * 7 + [1.0]}
    figure = figures.publish(figures.per_breed, table, tmp_path)
    assert r"$\nonsense$ (2)" in texts(figure)
    read = figures.read_table(tmp_path / "per_breed.csv")
    assert read == table and {type(n) for n in read["photos"]} == {int}


def test_figures_go_to_the_home_unless_told(home, tmp_path, monkeypatch):
    figures.save(figures.gallery([], []), "empty")
    assert (home / "figures" / "empty.pdf").exists()
    monkeypatch.setenv("DOGTL_FIGURES", "elsewhere")
    figures.save(figures.gallery([], []), "empty")
    assert (tmp_path / "elsewhere" / "empty.png").exists()


def shown(figure, monkeypatch) -> tuple[Image.Image, dict]:
    """The image that a notebook shows of a figure, and its HTML attributes."""
    import IPython.display

    kept = []
    keep = lambda data, raw: kept.append(data)  # noqa: E731
    monkeypatch.setattr(IPython.display, "display", keep)
    figure._ipython_display_()
    words = dict(re.findall(r'(\w+)="([^"]*)"', kept[0]["text/html"]))
    assert unescape(words["alt"]) == kept[0]["text/plain"] == figure.alt
    pixels = base64.b64decode(words["src"].partition("base64,")[2])
    return Image.open(io.BytesIO(pixels)), words


def test_a_notebook_shows_lines_sharp_and_photos_small(monkeypatch):
    image, words = shown(figures.training_curves(curves()), monkeypatch)
    assert (image.format, image.size, words["width"]) == ("PNG", (1540, 528), "770")
    assert words["alt"].endswith(
        "Lowest valid loss 0.24, epoch 30, valid accuracy 0.88."
    )
    square = Image.new("RGB", (8, 8), "teal")
    image, words = shown(figures.gallery([square], ['a "b"\n<c>']), monkeypatch)
    assert (image.format, image.width, words["width"]) == ("JPEG", 770, "770")
    assert words["alt"] == "1 image: a &quot;b&quot; &lt;c&gt;"


@pytest.mark.parametrize("name", ["l2_penalty", "learning_curve"])
def test_curves_have_intervals_and_an_axis_that_magnifies_nothing(name):
    table = {"l2": [0, 1], "photos": [8, 9], "train_accuracy": [1, 0.97]}
    table["valid_accuracy"] = [0.95, 0.96]
    (bare,) = getattr(figures, name)(table).axes
    assert bare.get_ylim() == (0.5, 1) and not bare.collections
    (axis,) = getattr(figures, name)(
        table | {"valid_low": [0.4, 0.6], "valid_high": [1, 1]}
    ).axes
    assert axis.get_ylim() == (0, 1)
    ends = [segment[:, 1].tolist() for segment in axis.collections[0].get_segments()]
    assert ends == [[0.4, 1], [0.6, 1]]


def test_pairs_that_are_left_out_are_counted():
    table = dogtl.confused_pairs(evaluation(20, wrong=0.9), top=3)
    (more,) = set(table["left_out"])
    said = f"and {more} more pairs, at most {table['photos'][-1]} each"
    assert more > 1 and said in " ".join(texts(figures.confused_pairs(table)))
    table["left_out"] = [1] * 3
    assert "1 more pair," in " ".join(texts(figures.confused_pairs(table)))


# --- in another style, and again ------------------------------------------------------


def test_one_style_file_changes_all_figures_and_undone_gives_the_same_bytes(tmp_path):
    style = tmp_path / "journal.mplstyle"
    style.write_text(
        "savefig.format: svg\nfont.size: 11\nxtick.labelsize: 11\n"
        "axes.prop_cycle: cycler('color', ['112233', '445566'])\n"
    )
    folder = tmp_path / "figures"
    figures.publish(figures.per_breed, dogtl.per_breed(evaluation(3)), folder)
    before = files_of(folder)
    assert before.keys() == {f"per_breed.{suffix}" for suffix in ("csv", "pdf", "png")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "STYLE", [*figures.STYLE, style])
        figure = figures.redraw(str(folder / "per_breed.csv"))
    assert figure.axes[0].get_xticklabels()[0].get_size() == 11
    assert "#445566" in (folder / "per_breed.svg").read_text()
    after = files_of(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"per_breed.png", "per_breed.pdf"}
    figures.redraw(folder / "per_breed.csv")
    assert files_of(folder) == before | {"per_breed.svg": after["per_breed.svg"]}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("per_breed", b"breed,photos\npug,3\n"),
        ("per_breed", b""),
        ("per_breed", b"breed,photos\npug\n"),
        ("gallery", b"breed\npug\n"),
        ("poodles", b"breed\npug\n"),
        ("per_breed", None),
    ],
)
def test_what_is_no_table_of_a_figure(tmp_path, name, data):
    if data is not None:
        (tmp_path / f"{name}.csv").write_bytes(data)
    with pytest.raises(dogtl.DogtlError, match=f"{name}.csv"):
        figures.redraw(tmp_path / f"{name}.csv")


def test_nothing_of_the_readers_own_plots_changes():
    program = """if True:
        import matplotlib
        from matplotlib import pyplot as plt
        plt.switch_backend("agg")
        figure, axis = plt.subplots()
        before = dict(matplotlib.rcParams)
        from dogtl import figures
        drawn = figures.one_bottleneck({"feature": [0, 1], "value": [1, 2]})
        figures.save(drawn, "drawn")
        assert dict(matplotlib.rcParams) == before and plt.get_fignums() == [1]
        assert plt.gcf() is figure and plt.gca() is axis"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def lightness(colour) -> float:
    """A colour's relative luminance, 0 to 1: what is left of it in grey."""
    red, green, blue = to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_categories_stay_apart_in_grey():
    with plt.style.context(figures.STYLE):
        cycle = list(plt.rcParams["axes.prop_cycle"])
    train, valid = cycle[:2]  # the two that are drawn as lines side by side
    assert abs(lightness(train["color"]) - lightness(valid["color"])) > 0.2
    for one, other in zip(cycle, cycle[1:], strict=False):
        assert one["linestyle"] != other["linestyle"]
