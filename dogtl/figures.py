"""The figures: each drawn from a table or from images that it is given, none computed.

A table is a dict of columns. It is written to CSV beside the figure, which can be
drawn again from it: `publish` names figure and file after the function that draws.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dogtl.choices import whole

COLUMN, PAGE = 3.4, 7.0  # inches: the width of a text column and of a page's text
STYLE = Path(__file__).with_suffix(".mplstyle")
NO_DATE = {"png": {"Software": None}, "pdf": {"CreationDate": None}}  # same bytes
BLUE = "#0072B2"  # the style's second colour: "C1" would depend on who shows the figure
MARKERS = "osD^v<>pP*Xh"  # modules differ by marker and lightness, never by hue alone


if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
    # In notebooks figures are shown as JPEG: photos as PNG would be four times larger.
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a function draw in the project's style; its figure is not left open."""

    @wraps(draw)
    def drawn(*args, **options) -> Figure:
        with plt.style.context(STYLE):
            figure = draw(*args, **options)
            figure.draw_without_rendering()  # settles the layout in this style
            plt.close(figure)
        return figure

    return drawn


def publish(draw: Callable[[dict], Figure], table: dict, folder: Path) -> Figure:
    """Draw a table, save the figure and, as CSV, the table; gives the figure back."""
    figure = draw(table)
    save(figure, draw.__name__, folder)
    with (
        whole(folder / f"{draw.__name__}.csv") as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(table)
        rows.writerows(zip(*table.values(), strict=True))
    return figure


def save(figure: Figure, name: str, folder: Path) -> Figure:
    """Save a figure as PNG (300 dpi) and PDF; gives it back.

    The same data gives the same bytes on the same machine: no dates are stored.
    """
    images = [image for axis in figure.axes for image in axis.images]
    with plt.style.context(STYLE):
        for image in images:  # their own pixels: half the bytes, and true to them
            image.set_interpolation("none")
        for suffix, metadata in NO_DATE.items():
            with whole(folder / f"{name}.{suffix}") as part:
                figure.savefig(part, format=suffix, metadata=metadata)
        for image in images:
            image.set_interpolation("auto")
    return figure


def breed_name(breed: str) -> str:
    """A breed's name for people: 001.Afghan_hound becomes Afghan hound."""
    name = re.sub(r"^\d+\.", "", breed).replace("_", " ")
    return name.encode("utf-8", "replace").decode()  # or no font could draw it


@styled
def gallery(images: list, captions: list[str], columns: int = 6) -> Figure:
    """Images (PIL, or arrays) in rows, each with its caption below it."""
    rows, cell = max(1, -(-len(images) // columns)), PAGE / columns
    width = int(cell / 0.066)  # characters that fit below an image
    captions = [
        "\n".join(fill(line, width) for line in c.split("\n")) for c in captions
    ]
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    size = (PAGE, rows * (cell + 0.14 * lines))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(np.asarray(image), cmap="gray")
        axis.set_xlabel(caption, size=6.5, labelpad=2)
    return figure


@styled
def cropped_away(table: dict) -> Figure:
    """How many ``photos`` lose which share of their pixels, ``low`` to ``high``."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.2))
    low, high = np.array(table["low"]), np.array(table["high"])
    axis.bar(low, table["photos"], high - low, align="edge", color=BLUE, edgecolor="w")
    axis.set(xlabel="share of the photo that is cut off", ylabel="photos")
    axis.set_xlim(low[0], high[np.array(table["photos"]) > 0].max())
    return figure


@styled
def one_bottleneck(table: dict) -> Figure:
    """The ``value`` of each ``feature`` of one photo."""
    figure, axis = plt.subplots(figsize=(PAGE, 1.8))
    axis.vlines(table["feature"], 0, table["value"], color=BLUE, linewidth=0.8)
    axis.set(xlabel="feature", ylabel="value", ylim=(0, None))
    axis.margins(x=0.01)
    return figure


@styled
def map_of_photos(table: dict) -> Figure:
    """Photos at ``x`` and ``y``, a panel for each ``breed``, the first 12 of them."""
    x, y, breed = (np.array(table[name]) for name in ("x", "y", "breed"))
    breeds = list(dict.fromkeys(table["breed"]))[:12]
    rows, columns = -(-len(breeds) // 4), min(4, len(breeds))
    size = (PAGE, 0.5 + 1.4 * rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True
    )
    for axis, name in zip(axes.flat, breeds, strict=False):
        axis.scatter(x, y, 1, color="0.8")
        axis.scatter(x[breed == name], y[breed == name], 3, color="black")
        axis.set_xlabel(breed_name(name), size=7, labelpad=2)
    for axis in axes.flat[len(breeds) :]:
        axis.set_axis_off()
    figure.supxlabel("first principal component")
    figure.supylabel("second principal component")
    return figure


@styled
def learning_curves(table: dict) -> Figure:
    """Loss and accuracy of train and valid by ``epoch``; ``kept``: 1 at the lowest."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.4))
    kept = table["epoch"][list(table["kept"]).index(1)]
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "valid"):
            axis.plot(table["epoch"], table[f"{split}_{what}"], label=split)
        axis.axvline(kept, color="0.6", linewidth=0.8, linestyle="-", zorder=0)
        axis.set_xlabel("epoch")
    axes[0].set(ylabel="cross-entropy [nats]", ylim=(0, None))
    axes[1].set(ylabel="accuracy", ylim=(None, 1.01))
    at_the_top = axes[0].get_xaxis_transform()
    axes[0].text(
        kept, 1, " lowest", va="top", color="0.4", size=7, transform=at_the_top
    )
    axes[0].legend(loc="center right")
    return figure


@styled
def l2_penalty(table: dict) -> Figure:
    """Accuracy of train and valid against the penalty ``l2``."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.4))
    # penalties stand side by side, since 0 has no place on a logarithmic axis
    places = {**table, "place": range(len(table["l2"]))}
    _splits(axis, places, "place")
    axis.set_xticks(places["place"], [f"{penalty:g}" for penalty in table["l2"]])
    axis.set(xlabel="L2 penalty", ylabel="accuracy")
    return figure


@styled
def photos_needed(table: dict) -> Figure:
    """Accuracy of train and valid against the number of training ``photos``."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.4))
    _splits(axis, table, "photos")
    axis.set(xlabel="training photos", ylabel="accuracy")
    axis.set_xlim(0, None)
    return figure


@styled
def how_sure(table: dict) -> Figure:
    """The interval, ``low`` to ``high``, of one accuracy by number of ``photos``."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.4))
    axis.fill_between(table["photos"], table["low"], table["high"], color="0.85")
    axis.plot(table["photos"], table["accuracy"], color="black")
    axis.set(xlabel="test photos", ylabel="accuracy, 95 % interval", xscale="log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.margins(x=0.02)
    return figure


@styled
def per_breed(table: dict) -> Figure:
    """Accuracy by ``breed`` with its interval (``low`` to ``high``), worst on top."""
    order = np.argsort(table["accuracy"], kind="stable")[:40][::-1]
    breed, n, share, low, high = (
        np.array(table[name])[order]
        for name in ("breed", "photos", "accuracy", "low", "high")
    )
    names = [f"{breed_name(b)} ({k})" for b, k in zip(breed, n, strict=True)]
    figure, axis = plt.subplots(figsize=(PAGE, 0.7 + 0.17 * len(names)))
    axis.hlines(names, low, high, color=BLUE, linewidth=1)
    axis.plot(share, names, "o", color="black", linestyle="")
    axis.set(xlabel="accuracy, 95 % interval", xlim=(0, 1.02))
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.grid(axis="x", linewidth=0.3)
    return figure


@styled
def confusion(table: dict) -> Figure:
    """How many ``photos`` of each ``breed`` (row) got each ``guess`` (column)."""
    breeds = list(dict.fromkeys(table["breed"]))
    counts = np.zeros((len(breeds), len(breeds)), dtype=int)
    for breed, guess, photos in zip(*table.values(), strict=True):
        counts[breeds.index(breed), breeds.index(guess)] = photos
    side = min(PAGE, 2.2 + 0.32 * len(breeds))
    figure, axis = plt.subplots(figsize=(side, side - 0.4))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    image = axis.imshow(shares, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, count, ha="center", va="center", color=shade, size=7)
    names = [breed_name(breed) for breed in breeds]
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="guessed breed", ylabel="breed")
    figure.colorbar(image, shrink=0.7, label="share of the breed's photos")
    return figure


@styled
def confused_pairs(table: dict) -> Figure:
    """The most frequent mistakes: ``photos`` of a ``breed`` guessed as ``guess``."""
    pairs = zip(table["breed"], table["guess"], strict=True)
    names = [f"{breed_name(breed)} as {breed_name(guess)}" for breed, guess in pairs]
    return _bars(names, table["photos"], "test photos")


@styled
def calibration(table: dict) -> Figure:
    """``accuracy`` against the mean ``probability`` of the guess, in bins."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.8))
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="-", linewidth=0.8)
    axis.vlines(table["probability"], table["low"], table["high"], color=BLUE)
    axis.plot(table["probability"], table["accuracy"], "o", color="black", linestyle="")
    axis.set(xlabel="probability of the guess", ylabel="share of right guesses")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


@styled
def compare_modules(table: dict) -> Figure:
    """``accuracy`` of each ``module``, and its interval, against ``multiply_adds``.

    A line marks the accuracy of ``guessing``.
    """
    figure, axis = plt.subplots(figsize=(PAGE, 2.6))
    chance = table["guessing"][0]
    axis.axhline(chance, color="0.5", linewidth=0.8, linestyle=":", label="guessing")
    labels = zip(table["module"], MARKERS, strict=False)
    for i, (label, marker) in enumerate(labels):
        cost = table["multiply_adds"][i] / 1e6 * 1.02**i  # side by side, not on another
        axis.vlines(cost, table["low"][i], table["high"][i], color="0.6", linewidth=1)
        shade = str(0.7 * i / len(table["module"]))
        axis.plot(cost, table["accuracy"][i], marker, color=shade, label=label)
    axis.set(xlabel="million multiply-adds a photo", ylabel="accuracy, 95 % interval")
    axis.set(xscale="log", ylim=(0, 1))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.xaxis.set_minor_formatter("{x:,g}")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def guesses(table: dict) -> Figure:
    """The ``probability`` of each ``breed`` for one photo, most probable on top."""
    names = [breed_name(breed) for breed in table["breed"]]
    figure = _bars(names, table["probability"], "probability", limit=1.1)
    axis = figure.axes[0]
    axis.bar_label(axis.containers[0], fmt="{:.2%}", padding=2, size=7)
    return figure


def mistakes(images: list, table: dict) -> Figure:
    """Photos taken for another breed: the ``breed``, the ``guess`` and how sure."""
    rows = zip(table["breed"], table["guess"], table["probability"], strict=True)
    captions = [
        f"{breed_name(breed)}\n{share:.0%} {breed_name(guess)}"
        for breed, guess, share in rows
    ]
    return gallery(images, captions)


def _splits(axis: Axes, table: dict, x: str) -> None:
    for split, marker in (("train", "o"), ("valid", "s")):
        axis.plot(table[x], table[f"{split}_accuracy"], marker=marker, label=split)
    axis.legend()


def _bars(names: list[str], values: list, what: str, limit: float | None = None):
    figure, axis = plt.subplots(figsize=(PAGE, 0.6 + 0.19 * max(1, len(names))))
    axis.barh(names[::-1], list(values)[::-1], color=BLUE)
    axis.set(xlabel=what, xlim=(0, limit))
    if not limit:
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure
