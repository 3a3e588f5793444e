"""The figures: each function draws the table or the images that it's given.

They compute nothing. A table is a dict of columns. `publish` saves a figure with its
table as CSV, both named after the function, and `redraw` draws it again from the CSV.

One style file changes fonts, sizes, colours and formats for all of them: name yours in
``DOGTL_STYLE``, or append it to `STYLE`. It overrides ``figures.mplstyle``.
"""

import base64
import csv
import io
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from html import escape
from inspect import getdoc
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import rcParams, style
from matplotlib.artist import setp
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dogtl.base import DogtlError, explain_errors, plural
from dogtl.store import atomic_write, find_home, to_csv

COLUMN_WIDTH = 3.4  # inches: a column of text
PAGE_WIDTH = 7.0  # inches: the text of a whole page
CAPTION_SIZE = 6.5  # points: the captions below a gallery's images
CAPTION_CHARACTER = 0.066  # inches: how wide a character of that size is
CAPTION_LINE = 0.14  # inches: how high a line of that size is
ACCENT = "C1"  # the style's second colour
STYLE = [Path(__file__).with_suffix(".mplstyle")]  # where they disagree, the last wins
if os.environ.get("DOGTL_STYLE"):
    STYLE.append(os.environ["DOGTL_STYLE"])
FORMATS = ("png", "pdf")  # besides the style's own, savefig.format
# Without dates and version numbers, the same figure gives the same bytes.
REPRODUCIBLE_METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
# These columns stay text when they're read back: a breed might be named "7".
TEXT_COLUMNS = ("breed", "prediction", "module", "photo", "square", "method", "change")
FIGURES: dict[str, Callable[..., Figure]] = {}  # the functions under `styled`, by name


@contextmanager
def _style() -> Iterator[None]:
    """Draw in the project's style; a breed's name may need letters that no font has."""
    with style.context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


class PageFigure(Figure):
    """A figure that notebooks show as HTML: only there can it have alternative text."""

    alt = ""  # the alternative text
    has_photos = False

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self.has_photos:  # JPEG keeps the notebook small
            kind = "jpeg"
            options = {"dpi": self.dpi, "pil_kwargs": {"quality": 88}}
        else:  # twice the pixels keep lines sharp on high-resolution screens
            kind = "png"
            options = {"dpi": 2 * self.dpi, "metadata": REPRODUCIBLE_METADATA["png"]}
        buffer = io.BytesIO()
        with _style():
            self.savefig(buffer, format=kind, **options)
        data = base64.b64encode(buffer.getvalue()).decode()
        source = f"data:image/{kind};base64,{data}"
        width = round(self.get_figwidth() * self.dpi)
        html = f'<img width="{width}" alt="{escape(self.alt)}" src="{source}">'
        display({"text/html": html, "text/plain": self.alt}, raw=True)


def styled(highlight: Callable = max, columns: tuple[str, ...] = ()) -> Callable:
    """Make a function draw in the project's style, and give its figures an alt text.

    Readers see the first line of the function's docstring: it opens the alternative
    text. Then come the `columns` of one row, the one that's highest (`highlight=max`)
    or lowest (`highlight=min`) in the first of them. `FIGURES` lists the function.
    """

    def decorate(draw: Callable[..., Figure]) -> Callable[..., Figure]:
        @wraps(draw)
        def drawn(*args, **options) -> Figure:
            with _style():
                figure = draw(*args, **options)
                figure.draw_without_rendering()  # the layout depends on the style
            figure.alt = figure.alt or alt_text(draw.__name__, *args, **options)
            return figure

        drawn.highlight = highlight
        drawn.columns = columns
        FIGURES[draw.__name__] = drawn
        return drawn

    return decorate


def publish(
    draw: Callable[..., Figure], table: dict, folder: Path | None = None, **options
) -> Figure:
    """Draw a table, save the figure, save the table as CSV, and return the figure.

    Parameters
    ----------
    draw : callable
        One of this file's functions; the files are named after it.
    table : dict of str to list
        What it draws.
    folder : Path, optional
        See `save`.
    **options
        Further arguments of `draw`, such as images.
    """
    data = to_csv([list(table), *zip(*table.values(), strict=True)])
    atomic_write(_folder(folder) / f"{draw.__name__}.csv", data)
    return save(draw(table=table, **options), draw.__name__, folder)


def redraw(file: str | Path, folder: Path | None = None) -> Figure:
    """Draw a figure again from its CSV in the current style, save it, and return it.

    Parameters
    ----------
    file : str or Path
        A table as `publish` leaves it, such as ``figures/per_breed.csv``.
    folder : Path, optional
        Where the figure goes; default: beside the file.

    Raises
    ------
    DogtlError
        If the file isn't the table of a figure; galleries are drawn from images.
    """
    file = Path(file)
    names = [name for name in FIGURES if name != "gallery"]
    if file.stem not in names:
        advice = f"give the table of one of these: {', '.join(names)}"
        raise DogtlError(f"{file} isn't named after a figure: {advice}")
    with explain_errors(f"{file} can't be drawn", "give a table that publish wrote"):
        return publish(FIGURES[file.stem], read_table(file), folder or file.parent)


def read_table(file: Path) -> dict[str, list]:
    """Read a table from its CSV; numbers become numbers again."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        names, *rows = csv.reader(lines)
    columns = [[row[i] for row in rows] for i in range(len(names))]
    return {
        name: column if name in TEXT_COLUMNS else list(map(_number, column))
        for name, column in zip(names, columns, strict=True)
    }


def alt_text(name: str, table: dict, caption: str = "") -> str:
    """Return a figure's alternative text: its caption and its main number.

    The default caption is the first line of the docstring; see `styled`.
    """
    draw = FIGURES[name]
    summary = getdoc(draw).split("\n")[0].replace("`", "")
    caption = caption or summary[0].upper() + summary[1:]
    cells = zip(*table.values(), strict=True)
    rows = [dict(zip(table, row, strict=True)) for row in cells]
    if "prediction" in table:  # the main number is that of a mistake
        rows = [row for row in rows if row["breed"] != row["prediction"]]
    if not rows or not draw.columns:
        return caption
    row = draw.highlight(rows, key=lambda row: row[draw.columns[0]])
    words = [f"{name.replace('_', ' ')} {_word(row[name])}" for name in draw.columns]
    degree = "Highest" if draw.highlight is max else "Lowest"
    return f"{caption} {degree} {', '.join(words)}."


def save(figure: Figure, name: str, folder: Path | None = None) -> Figure:
    """Save a figure as PNG (300 dpi), as PDF and in the style's format; return it.

    The same data gives the same bytes on the same machine: no dates are stored.

    Parameters
    ----------
    figure : Figure
        What to save.
    name : str
        The files' name, without a suffix.
    folder : Path, optional
        Where they go; default: ``DOGTL_FIGURES``, or else ``figures`` in the home.
    """
    images = [image for ax in figure.axes for image in ax.images]
    with _style():
        setp(images, interpolation="none")  # no resampling: smaller, and exact
        for suffix in dict.fromkeys((*FORMATS, rcParams["savefig.format"])):
            buffer = io.BytesIO()
            metadata = REPRODUCIBLE_METADATA.get(suffix)
            figure.savefig(buffer, format=suffix, metadata=metadata)
            atomic_write(_folder(folder) / f"{name}.{suffix}", buffer.getvalue())
        setp(images, interpolation="auto")
    return figure


def breed_name(breed: str) -> str:
    """Return a breed's readable name: 001.Afghan_hound becomes Afghan hound."""
    name = re.sub(r"^\d+\.", "", breed).replace("_", " ")
    return name.encode("utf-8", "replace").decode()  # fonts can't draw lone surrogates


def breed_names(breeds: list[str]) -> list[str]:
    """Return readable names; breeds that would share one keep their numbers."""
    names = {breed: breed_name(breed) for breed in breeds}
    counts = Counter(names.values())
    for breed, name in names.items():
        if counts[name] > 1:
            names[breed] = breed_name(breed.replace(".", " ", 1))
    return [names[breed] for breed in breeds]


@styled()
def gallery(
    images: list, captions: list[str], columns: int = 6, rows: list[str] | None = None
) -> Figure:
    """Images (PIL, or arrays), captions below them, and labels left of the ``rows``."""
    contents = f"{len(images)} {plural(len(images), 'image')}"
    if rows:
        contents += f" in rows ({', '.join(rows)})"
    alt = f"{contents}: {'; '.join(captions)}"
    cell = PAGE_WIDTH / columns  # inches: an image's side
    max_characters = int(cell / CAPTION_CHARACTER)  # in a line below an image
    captions = [
        "\n".join(fill(line, max_characters) for line in caption.split("\n"))
        for caption in captions
    ]
    n_lines = 1 + max((caption.count("\n") for caption in captions), default=0)
    n_rows = max(1, math.ceil(len(images) / columns))
    height = n_rows * (cell + CAPTION_LINE * n_lines)
    figure, axes = _grid(n_rows, columns, (PAGE_WIDTH, height))
    figure.alt = " ".join(alt.split())
    figure.has_photos = True
    setp(axes.flat, xticks=[], yticks=[], frame_on=False)
    for ax, label in zip(axes[:, 0], rows or [], strict=False):
        ax.set_ylabel(label)
    for ax, image, caption in zip(axes.flat, images, captions, strict=False):
        ax.imshow(np.asarray(image), cmap="gray")
        ax.set_xlabel(caption, size=CAPTION_SIZE, labelpad=2)
    return figure


def most_confident_errors(images: list, table: dict) -> Figure:
    """Photos with a wrong ``prediction``: the ``breed`` and the ``confidence``."""
    rows = zip(*_pair_names(table), table["confidence"], strict=True)
    captions = [
        f"{breed}\n{confidence:.0%} {prediction}"
        for breed, prediction, confidence in rows
    ]
    return gallery(images, captions)


@styled(highlight=max, columns=("photos", "low", "high"))
def cropped_away(table: dict) -> Figure:
    """How many ``photos`` lose which share of their pixels, ``low`` to ``high``."""
    xlabel = "share of the photo that is cut off"
    figure, ax = _plot(COLUMN_WIDTH, 2.2, xlabel, "photos")
    low, high = np.array(table["low"]), np.array(table["high"])
    ax.bar(low, table["photos"], high - low, align="edge", color=ACCENT, edgecolor="w")
    ax.set_xlim(low[0], high[np.array(table["photos"]) > 0].max())
    return figure


@styled(highlight=max, columns=("value", "feature"))
def one_bottleneck(table: dict) -> Figure:
    """The ``value`` of each ``feature`` of one photo."""
    figure, ax = _plot(PAGE_WIDTH, 1.8, "feature", "value")
    ax.vlines(table["feature"], 0, table["value"], color=ACCENT, linewidth=0.8)
    ax.set(xmargin=0.01, ylim=(0, None))
    return figure


@styled()
def pca_map(table: dict) -> Figure:
    """Photos at ``x`` and ``y``, a panel for each ``breed``, the first 12 of them."""
    x, y, breed_of = (np.array(table[name]) for name in ("x", "y", "breed"))
    breeds = list(dict.fromkeys(table["breed"]))[:12]
    n_rows = math.ceil(len(breeds) / 4)
    n_columns = min(4, len(breeds))
    size = (PAGE_WIDTH, 0.5 + 1.4 * n_rows)
    figure, axes = _grid(n_rows, n_columns, size, sharex=True, sharey=True)
    for ax, breed, name in zip(axes.flat, breeds, breed_names(breeds), strict=False):
        ax.scatter(x, y, 1, color="0.8")
        ax.scatter(x[breed_of == breed], y[breed_of == breed], 3, color="black")
        ax.set_xlabel(name, size=7, labelpad=2)
    for ax in axes.flat[len(breeds) :]:
        ax.set_axis_off()
    figure.supxlabel("first principal component")
    figure.supylabel("second principal component")
    return figure


@styled(highlight=min, columns=("valid_loss", "epoch", "valid_accuracy"))
def training_curves(table: dict) -> Figure:
    """Loss and accuracy of train and valid by ``epoch``, with a line at the ``best``.

    The column ``best`` is 1 in the row of the lowest validation loss, else 0.
    """
    figure, axes = _grid(1, 2, (PAGE_WIDTH, 2.4))
    best = table["epoch"][list(table["best"]).index(1)]
    for ax, measure in zip(axes.flat, ("loss", "accuracy"), strict=True):
        for split in ("train", "valid"):
            ax.plot(table["epoch"], table[f"{split}_{measure}"], label=split)
        ax.axvline(best, color="0.6", linewidth=0.8, linestyle="-", zorder=0)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    loss, accuracy = axes.flat
    loss.set(ylabel="cross-entropy [nats]", ylim=(0, None))
    accuracy.set_ylabel("accuracy")
    _set_accuracy_limits(accuracy, table)
    text_style = {"ha": "center", "va": "bottom", "size": 7, "color": "0.4"}
    place = loss.get_xaxis_transform()  # x in epochs, y from 0 to 1 over the axes
    loss.text(best, 1, "lowest valid", transform=place, **text_style)
    figure.legend(handles=loss.lines[:2], loc="outside upper center", ncols=2)
    return figure


@styled(highlight=max, columns=("valid_accuracy", "l2"))
def l2_penalty(table: dict) -> Figure:
    """Accuracy of train and valid against the penalty ``l2``.

    Where the table has ``valid_low`` and ``valid_high``, the interval is drawn too.
    """
    figure, ax = _plot(COLUMN_WIDTH, 2.4, "L2 penalty", "accuracy")
    x = range(len(table["l2"]))  # evenly spaced: a logarithmic axis couldn't show 0
    _plot_splits(ax, x, table)
    ax.set_xticks(x, [f"{penalty:g}" for penalty in table["l2"]])
    return figure


@styled(highlight=max, columns=("valid_accuracy", "photos"))
def learning_curve(table: dict) -> Figure:
    """Accuracy of train and valid against the number of training ``photos``.

    Where the table has ``valid_low`` and ``valid_high``, the interval is drawn too.
    """
    figure, ax = _plot(COLUMN_WIDTH, 2.4, "training photos", "accuracy")
    _plot_splits(ax, table["photos"], table)
    ax.set_xlim(0, None)
    return figure


@styled(highlight=max, columns=("photos", "low", "high"))
def interval_width(table: dict) -> Figure:
    """The interval, ``low`` to ``high``, of one accuracy by number of ``photos``."""
    figure, ax = _plot(COLUMN_WIDTH, 2.4, "test photos", "accuracy, 95 % interval")
    ax.fill_between(table["photos"], table["low"], table["high"], color="0.85")
    ax.plot(table["photos"], table["accuracy"], color="black")
    ax.set(xscale="log", xmargin=0.02)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    return figure


@styled(highlight=max, columns=("observed",))
def wilson_picture(table: dict) -> Figure:
    """The plausible shares, ``low`` to ``high``, for each ``truth``, and ``observed``.

    Wilson's interval is where the line of what was observed runs inside the band.
    """
    figure, ax = _plot(COLUMN_WIDTH, 2.8, "true share", "observed share")
    truth, low, high = (np.array(table[name]) for name in ("truth", "low", "high"))
    observed = table["observed"][0]
    interval = truth[(low <= observed) & (observed <= high)][[0, -1]]
    ax.fill_between(truth, low, high, color="0.85")
    ax.hlines(observed, truth[0], truth[-1], color="black", linewidth=0.8)
    ax.hlines(observed, *interval, color=ACCENT, linewidth=3)
    ax.vlines(interval, 0, observed, color=ACCENT, linewidth=0.8, linestyle=":")
    ax.set(xlim=truth[[0, -1]], ylim=truth[[0, -1]])
    return figure


@styled(highlight=min, columns=("accuracy", "breed"))
def per_breed(table: dict) -> Figure:
    """Accuracy by ``breed`` with its interval (``low`` to ``high``), worst on top."""
    table = _sort_rows(table, by="accuracy")
    table = {name: column[:40][::-1] for name, column in table.items()}
    names = breed_names(table["breed"].tolist())
    labels = [f"{name} ({n})" for name, n in zip(names, table["photos"], strict=True)]
    height = 0.7 + 0.17 * len(labels)
    figure, ax = _plot(PAGE_WIDTH, height, "accuracy, 95 % interval", "")
    _dots(ax, labels, table["accuracy"], table)
    return figure


@styled(highlight=max, columns=("photos", "breed", "prediction"))
def confusion(table: dict) -> Figure:
    """How many ``photos`` of a ``breed`` (row) got each ``prediction`` (column)."""
    breeds = list(dict.fromkeys(table["breed"]))
    names = breed_names(breeds)
    n = len(breeds)
    counts = np.array(table["photos"]).reshape(n, n)
    width = PAGE_WIDTH if n > 4 else COLUMN_WIDTH
    figure, ax = _plot(width, 1.5 + 0.25 * n, "predicted breed", "breed")
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    image = ax.imshow(shares, vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        text_style = {"ha": "center", "va": "center", "size": 7, "color": color}
        ax.text(column, row, counts[row, column], **text_style)
    ax.set_xticks(range(n), names, rotation=45, ha="right")
    ax.set_yticks(range(n), names)
    figure.colorbar(image, label="share of the breed's photos")
    return figure


@styled(highlight=max, columns=("photos", "breed", "prediction"))
def confused_pairs(table: dict) -> Figure:
    """The most frequent mistakes: ``photos`` of a ``breed``, and the ``prediction``."""
    pairs = zip(*_pair_names(table), strict=True)
    labels = [f"{breed} as {prediction}" for breed, prediction in pairs]
    n_left_out = table["left_out"][0] if table.get("left_out") else 0
    xlabel = "test photos"
    if n_left_out:
        pairs_left_out = f"{n_left_out} more {plural(n_left_out, 'pair')}"
        xlabel += f" (and {pairs_left_out}, at most {table['photos'][-1]} each)"
    figure, ax = _bars(labels, table["photos"], xlabel)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


@styled(highlight=max, columns=("confidence", "accuracy"))
def calibration(table: dict) -> Figure:
    """``accuracy`` against the mean ``confidence`` of the predictions, in bins."""
    figure, ax = _plot(COLUMN_WIDTH, 2.8, "mean confidence", "accuracy, 95 % interval")
    ax.plot([0, 1], [0, 1], color="0.6", linestyle="-", linewidth=0.8)
    ax.vlines(table["confidence"], table["low"], table["high"], color=ACCENT)
    ax.plot(table["confidence"], table["accuracy"], "o", color="black", linestyle="")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


@styled(highlight=max, columns=("accuracy", "module"))
def compare_modules(table: dict) -> Figure:
    """``accuracy`` of each ``module`` (``low`` to ``high``), the most accurate on top.

    Dots are filled where ``pareto`` is 1. Beside each row stand its ``multiply_adds``
    and ``parameters``; a dotted line marks the accuracy of ``chance``.
    """
    table = _sort_rows(table, by="accuracy")
    n = len(table["module"])
    figure, ax = _plot(PAGE_WIDTH, 0.9 + 0.22 * n, "accuracy, 95 % interval", "")
    chance = table["chance"][0]
    ax.axvline(chance, color="0.4", linewidth=0.8, linestyle=":")
    _dots(ax, table["module"], table["accuracy"], table, filled=table["pareto"])
    header_style = {"va": "bottom", "size": 7, "color": "0.3"}
    ax.text(chance, n - 0.4, "chance", ha="center", **header_style)
    cell_style = {"va": "center_baseline", "size": 7}
    # Each cost is a column of text whose right end is x_offset points beside the axes.
    beside = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    beside["ha"] = "right"
    for name, decimals, x_offset in (("multiply_adds", 0, 56), ("parameters", 2, 104)):
        header = f"million\n{name.replace('_', '-')}"
        ax.annotate(header, (1, n - 0.4), (x_offset, 0), **beside, **header_style)
        for row, cost in enumerate(table[name]):  # 0: the cost couldn't be counted
            text = f"{cost / 1e6:,.{decimals}f}" if cost else "?"
            ax.annotate(text, (1, row), (x_offset, 0), **beside, **cell_style)
    return figure


@styled(highlight=max, columns=("accuracy", "method", "photos"))
def transfer_curve(table: dict) -> Figure:
    """``accuracy`` of each ``method`` by ``photos`` per breed, ``low`` to ``high``.

    Accuracies are means over draws of the training photos, and a band reaches over the
    draws' intervals. A dotted line marks the accuracy of ``chance``.
    """
    ylabel = "test accuracy: mean, and range\nof the draws' 95 % intervals"
    figure, ax = _plot(PAGE_WIDTH, 3.2, "training photos per breed", ylabel)
    table = {name: np.array(column) for name, column in table.items()}
    for i, method in enumerate(dict.fromkeys(table["method"].tolist())):
        rows = {
            name: column[table["method"] == method] for name, column in table.items()
        }
        x, y = rows["photos"], rows["accuracy"]
        (line,) = ax.plot(x, y, marker="osD^v"[i % 5], label=method)
        band_style = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
        ax.fill_between(x, rows["low"], rows["high"], **band_style)
    chance = table["chance"][0]
    ax.axhline(chance, color="0.4", linewidth=0.8, linestyle=":")
    # The word stands 3 points right of the axes.
    place = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    text_style = {"va": "center", "size": 7, "color": "0.3"}
    ax.annotate("chance", (1, chance), (3, 0), **place, **text_style)
    ax.set(xscale="log", ylim=(0, 1))
    ticks = np.unique(table["photos"])
    ax.set_xticks(ticks, [f"{n:.3g}" for n in ticks])
    ax.minorticks_off()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


@styled(highlight=max, columns=("share", "change"))
def counterfactuals(table: dict) -> Figure:
    """The ``share`` of predictions, ``low`` to ``high``, that each ``change`` moves."""
    table = _sort_rows(table, by="share")
    height = 0.7 + 0.22 * len(table["share"])
    figure, ax = _plot(COLUMN_WIDTH, height, "changed predictions, 95 % interval", "")
    _dots(ax, table["change"], table["share"], table)
    ax.set_xlim(-0.02, 1.02)
    return figure


@styled(highlight=max, columns=("probability", "breed"))
def predictions(table: dict) -> Figure:
    """The ``probability`` of each ``breed`` for one photo, most probable on top."""
    names = breed_names(list(table["breed"]))
    figure, ax = _bars(names, table["probability"], "probability")
    ax.set_xlim(0, 1.1)
    ax.bar_label(ax.containers[0], fmt="{:.2%}", padding=2, size=7)
    return figure


def _folder(folder: Path | None) -> Path:
    chosen = folder or os.environ.get("DOGTL_FIGURES")
    return Path(chosen).absolute() if chosen else find_home() / "figures"


def _grid(rows: int, columns: int, size: tuple, **options) -> tuple[Figure, np.ndarray]:
    figure = PageFigure(figsize=size)  # avoids pyplot's global state
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _plot(width: float, height: float, x: str, y: str) -> tuple[Figure, Axes]:
    figure, axes = _grid(1, 1, (width, height))
    axes[0, 0].set(xlabel=x, ylabel=y)
    return figure, axes[0, 0]


def _sort_rows(table: dict, by: str) -> dict[str, np.ndarray]:
    order = np.argsort(table[by], kind="stable")
    return {name: np.array(column)[order] for name, column in table.items()}


def _dots(ax: Axes, names: list, shares: list, table: dict, filled=None) -> None:
    """Draw a row for each name: its interval, and a dot, hollow where not `filled`."""
    for row, share in enumerate(shares):
        ax.hlines(row, table["low"][row], table["high"][row], color=ACCENT, linewidth=1)
        fill_color = "black" if filled is None or filled[row] else "white"
        ax.plot(share, row, "o", color="black", markerfacecolor=fill_color)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0, 1.02), ylim=(-0.6, len(names) - 0.4))
    ax.grid(axis="x", linewidth=0.3)


def _bars(names: list[str], values: list, xlabel: str) -> tuple[Figure, Axes]:
    """Draw a bar for each name, the first one on top."""
    rows = range(len(names))
    figure, ax = _plot(PAGE_WIDTH, 0.6 + 0.19 * max(1, len(names)), xlabel, "")
    ax.barh(rows, list(values)[::-1], color=ACCENT)
    ax.set_yticks(rows, names[::-1])
    return figure, ax


def _plot_splits(ax: Axes, x: list, table: dict) -> None:
    for split, marker in (("train", "o"), ("valid", "s")):
        (line,) = ax.plot(x, table[f"{split}_accuracy"], marker=marker, label=split)
        if f"{split}_low" in table:
            low, high = table[f"{split}_low"], table[f"{split}_high"]
            ax.vlines(x, low, high, color=line.get_color(), linewidth=0.8)
    _set_accuracy_limits(ax, table)
    ax.figure.legend(loc="outside upper center", ncols=2)


def _set_accuracy_limits(ax: Axes, table: dict) -> None:
    """Start the axis at 0 or 0.5: a closer view would exaggerate single photos."""
    columns = [name for name in table if name.endswith(("_accuracy", "_low"))]
    lowest = min(min(table[name]) for name in columns)
    ax.set_ylim(0.5 if lowest > 0.5 else 0, 1)
    setp([*ax.lines, *ax.collections], clip_on=False)


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell


def _word(value: object) -> str:
    if isinstance(value, str):
        return breed_name(value)
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.3g}"


def _pair_names(table: dict) -> tuple[list[str], list[str]]:
    """Name breeds and predictions together, so that both keep or drop their numbers."""
    names = breed_names(table["breed"] + table["prediction"])
    n = len(table["breed"])
    return names[:n], names[n:]
