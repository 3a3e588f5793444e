"""Step 2, bottlenecks: run every square through the module, once, and keep that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from dogtl import modules, store, toy
from dogtl.base import DogtlError, log, plural, progress
from dogtl.modules import Module
from dogtl.squares import Squares, make_pool

if TYPE_CHECKING:
    import distributed

BATCH = 8  # as much as a processor keeps at hand: 1 or 32 take 1.4 times as long
READERS = 4  # threads: reading a square is quick beside the network
MAX_FEATURE = 1e15  # of a feature: thousands of its squares still add up in float32
SHARD = 256  # squares per stored file: what a killed run loses at most
CODE = store.code_version(__file__, modules.__file__, "tensorflow", "pillow")


@dataclass(frozen=True, eq=False, repr=False)
class Bottlenecks:
    """The bottlenecks of one split: the feature vectors of its photos.

    Attributes
    ----------
    features : ndarray, float32 [photos, features]
        One row per photo.
    labels : ndarray, int64 [photos]
        Each photo's breed, as an index into `breeds`.
    breeds : list of str
        The classes, sorted.
    paths : list of Path
        The photos, in the rows' order.
    skipped : dict of Path to str
        The split's photos that can't be used, with the reason.
    module : dict of str to str
        The ``name`` and the ``fingerprint`` of the module that made them.
    """

    features: np.ndarray
    labels: np.ndarray
    breeds: list[str]
    paths: list[Path]
    skipped: dict[Path, str]
    module: dict[str, str]

    def __repr__(self) -> str:
        n, width = self.features.shape
        bottlenecks = plural(n, "bottleneck")
        return f"{n} {bottlenecks} of {width} features, {len(self.breeds)} breeds"


def extract(
    squares: Squares,
    module: Module,
    home: Path | None = None,
    client: distributed.Client | None = None,
) -> dict[str, Bottlenecks]:
    """Return the bottlenecks of each split; what isn't there yet is computed.

    An extraction that was stopped resumes after the last stored 256 squares. A warning
    tells of equal photos in two splits or breeds.

    Parameters
    ----------
    squares : Squares
        As `square` returns them, of the module's size.
    module : Module
        As `load_module` returns it.
    home : Path, optional
        The folder for everything generated; unless given ``DOGTL_HOME``, else ``data``.
    client : distributed.Client, optional
        A Dask cluster whose workers do it; the home must lie where all see it.

    Returns
    -------
    dict of str to Bottlenecks
        For ``train``, ``valid`` and ``test``.

    Raises
    ------
    DogtlError
        If the module can't take these squares, or gives numbers that aren't finite.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> dogtl.extract(squares, module)["test"]
    240 bottlenecks of 256 features, 12 breeds
    """
    if squares.size != module.size:
        raise DogtlError(
            f"the module {module.name} takes squares of {module.size} pixels, not of"
            f" {squares.size}: make them with dogtl.square(photos, module.size)"
        )
    if mismatch := find_mismatch(squares, module):
        log.warning("%s", mismatch)
    home = store.find_home(home)
    folder = home / "bottlenecks" / store.fingerprint(CODE, module.fingerprint)
    made_by = {"name": module.name, "fingerprint": module.fingerprint}
    known = _load_shards(sorted(folder.glob("*.npz")), module.n_features)
    bottlenecks, hashes = {}, {}
    for split, paths in squares.paths.items():
        with make_pool(client, home) as pool:
            hashes[split] = pool.map(store.fingerprint_file, squares.files[split])
            rows = zip(hashes[split], squares.files[split], paths, strict=True)
            missing = {row[0]: row for row in rows if row[0] not in known}
            if missing:
                shards = _compute(list(missing.values()), module, folder, client, pool)
                n_shards = -(-len(missing) // SHARD)
                made = progress(shards, n_shards, f"{split} bottlenecks")
                known |= _load_shards(made, module.n_features)
            else:
                log.info("%s bottlenecks: nothing to do", split)
        features = np.stack([known[key] for key in hashes[split]])
        facts = (squares.labels[split], squares.breeds, paths, squares.skipped[split])
        bottlenecks[split] = Bottlenecks(features, *facts, made_by)
    for text in find_leaks(bottlenecks, hashes):
        log.warning("%s", text)
    return bottlenecks


def find_leaks(
    bottlenecks: dict[str, Bottlenecks], hashes: dict[str, list[str]]
) -> Iterator[str]:
    """Yield a sentence for each two splits that share photos, and one for breeds.

    Photos are equal if their squares are; `hashes` has those of the squares, by split.
    """

    def some(paths: list[Path]) -> str:
        return f"{len(paths)} {plural(len(paths), 'photo')}, such as {paths[0]}"

    for one, other in combinations(bottlenecks, 2):
        there = set(hashes[one])
        rows = zip(hashes[other], bottlenecks[other].paths, strict=True)
        shared = [path for key, path in rows if key in there]
        if shared:
            text = f"{other} shares {some(shared)}, with {one}"
            yield f"{text}: that flatters the accuracy"
    labels, mixed = {}, {}
    for split, made in bottlenecks.items():
        rows = zip(hashes[split], made.paths, made.labels, strict=True)
        for key, path, label in rows:
            if labels.setdefault(key, label) != label:
                mixed[key] = path
    if mixed:
        text = f"breeds share {some([*mixed.values()])}"
        yield f"{text}: only one of its labels can be correct"


def extract_features(files: list[Path], module: Module) -> Iterator[np.ndarray]:
    """Yield the bottlenecks of squares, a batch of up to 8 at a time.

    Other threads read the squares to come while the module works on these.

    Parameters
    ----------
    files : list of Path
        JPEGs of the module's size.
    module : Module
        As `load_module` returns it.

    Yields
    ------
    ndarray, float32 [batch, features]
        The next rows.

    Examples
    --------
    >>> module = dogtl.load_module("toy")
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), module.size)
    >>> batches = dogtl.extract_features(squares.files["test"][:20], module)
    >>> [batch.shape for batch in batches]
    [(8, 256), (8, 256), (4, 256)]
    """
    with ThreadPool(READERS) as pool:
        for start in range(0, len(files), SHARD):  # or all would be read ahead
            squares = pool.imap(read_square, files[start : start + SHARD])
            while batch := list(islice(squares, BATCH)):
                yield module(np.stack(batch).astype(np.float32) / 255)


def read_square(source: Path | BinaryIO) -> np.ndarray:
    """Return the pixels of a square.

    Parameters
    ----------
    source : Path or file
        One of the `files` of `Squares`, or an open file.

    Returns
    -------
    ndarray, uint8 [size, size, 3]
        Red, green and blue.

    Raises
    ------
    DogtlError
        If the file is missing or damaged.

    Examples
    --------
    >>> squares = dogtl.square(dogtl.load_photos("kennel"), 112)
    >>> dogtl.read_square(squares.files["test"][0]).shape
    (112, 112, 3)
    """
    from PIL import Image

    try:
        with Image.open(source, formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DogtlError(
            f"the square {source} can't be read ({error}): delete it, and run the same"
            " again"
        ) from error


def check_finite(features: np.ndarray, paths: list[Path], module: str) -> None:
    """Raise DogtlError, naming photo and module, if a feature isn't finite or too big.

    Too big is what 32-bit arithmetic with many of them can't hold.
    """
    bad = np.flatnonzero(~(np.abs(features) <= MAX_FEATURE).all(axis=1))  # NaN never is
    if len(bad):
        photo = paths[bad[0]] if len(paths) == len(features) else f"row {bad[0]}"
        raise DogtlError(
            f"the bottleneck of {photo} holds numbers that aren't finite or beyond 1e15"
            f" (module {module}): choose another module, or leave that photo out"
        )


def find_mismatch(squares: Squares, module: Module) -> str:
    """Say that a toy is to see photos, or a real module the kennel's drawings."""
    is_drawn = toy.KENNEL in next(iter(squares.paths.values()))[0].parts
    is_toy = module.name.startswith("toy")
    if is_toy and not is_drawn:
        knows, advice = "drawings only", "use --module mobilenet_v2, or a folder"
    elif is_drawn and not is_toy:
        knows, advice = "photos, and the kennel is drawn", "use --module toy"
    else:
        return ""
    return f"the module {module.label} knows {knows}: {advice}"


def _load_shards(shards: Iterable[Path], n_features: int) -> dict[str, np.ndarray]:
    """Return stored bottlenecks, each by the hash of its square."""
    known = {}
    for file in shards:
        shard = store.load_arrays(file)
        hashes, features = shard.get("hashes"), np.asarray(shard.get("features"))
        shape = (len(hashes), n_features) if isinstance(hashes, list) else None
        if (features.shape, features.dtype) == (shape, np.float32):
            known.update(zip(hashes, features, strict=True))
    return known


def _compute(
    squares: list[tuple], module: Module, folder: Path, client, pool
) -> Iterator[Path]:
    """Yield the files of the squares' bottlenecks, as soon as each is stored."""
    shards = [squares[i : i + SHARD] for i in range(0, len(squares), SHARD)]
    compute = partial(_compute_shard, module, folder)
    if client is None:  # one after another: the module keeps all cores busy itself
        return map(compute, shards)
    return pool.imap(compute, shards, chunksize=1, module=module)


def _compute_shard(module: Module, folder: Path, squares: list[tuple]) -> Path:
    """Compute and store the bottlenecks of some squares; return their file.

    A square here is its hash, its file and its photo.
    """
    hashes, files, paths = map(list, zip(*squares, strict=True))
    features = np.concatenate(list(extract_features(files, module)))
    check_finite(features, paths, module.name)
    file = folder / f"{store.fingerprint(hashes)}.npz"
    store.save_arrays(file, {"hashes": hashes, "features": features})
    return file
