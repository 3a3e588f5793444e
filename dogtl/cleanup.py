"""What ``dogtl clean`` deletes: stored results that nobody needs anymore."""

import os
from pathlib import Path

from dogtl import bottlenecks, linear, report, store
from dogtl.modules import split_fingerprint
from dogtl.photos import Photos
from dogtl.squares import square_files

# Patterns for the hashes in stored names
HASH = "[0-9a-f]" * 20
SHORT_HASH = "[0-9a-f]" * 8  # of figures' folders


def find_unneeded(photos: Photos, home: Path) -> list[Path]:
    """Return the files in a home that can be deleted: dogtl can make them again.

    The squares of these photos stay, in the sizes that trained layers need; those of
    other photos don't. What belongs to a trained layer stays: its module's bottlenecks,
    its copy in ``linear`` and its newest figures. So do photos, modules, layers and
    files that dogtl didn't make.

    Parameters
    ----------
    photos : Photos
        As `load_photos` returns them.
    home : Path
        The folder for everything generated.

    Returns
    -------
    list of Path
        Files inside the home, none of them behind a link.
    """
    files = [file for file in home.glob("layers/*.npz") if file.is_file()]
    layers = [layer for layer in map(linear.read_layer, files) if layer]
    modules = {layer.module["fingerprint"] for layer in layers}
    squares = _squares_of(photos, modules, home)
    folders = {store.fingerprint(bottlenecks.CODE, module) for module in modules}
    # Names don't say which file in linear/ is which layer, but equal layers have
    # equal bytes in linear/ and layers/.
    layer_bytes = {file.read_bytes() for file in files}
    current_figures = _newest_figures(files, home)

    found = [f for f in home.glob(f"squares/*/*/*-{HASH}.jpg") if f not in squares]
    shards = home.glob(f"bottlenecks/{HASH}/{HASH}.npz")
    found += [shard for shard in shards if shard.parent.name not in folders]
    copies = [file for file in home.glob(f"linear/{HASH}.npz") if file.is_file()]
    found += [copy for copy in copies if copy.read_bytes() not in layer_bytes]
    for name in report.FIGURE_NAMES:
        figures = home.glob(f"figures/*-{SHORT_HASH}/{name}.*")
        found += [file for file in figures if file.parent not in current_figures]
    root = home.resolve()
    # Leave out what is behind a link.
    return [f for f in found if f.resolve() == root / f.relative_to(home)]


def _newest_figures(layer_files: list[Path], home: Path) -> set[Path]:
    """Return the newest folder of figures of each layer."""
    tables = home.glob(f"figures/*-{SHORT_HASH}/per_breed.csv")
    newest = {}
    for table in sorted(tables, key=os.path.getmtime):  # newer ones replace older ones
        layer_name = table.parent.name.rpartition("-")[0]
        newest[layer_name] = table.parent
    return {newest[file.stem] for file in layer_files if file.stem in newest}


def _squares_of(photos: Photos, modules: set[str], home: Path) -> set[Path]:
    """Return the squares of these photos, in the sizes that these modules take."""
    squares = set()
    for size in {split_fingerprint(fingerprint)[1] for fingerprint in modules}:
        for split in photos.paths:
            squares.update(square_files(photos, split, size, home).values())
    return squares
