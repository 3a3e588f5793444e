"""Step 2, bottlenecks: run every square through the module, once, and keep that."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dogtl.choices import Choice, log, progress, read_arrays, write_arrays
from dogtl.modules import Module, ModuleError, describe, load, tensorflow
from dogtl.squares import Squares, square

BATCH = 32  # one image a call is 2.5 times slower; larger batches gain nothing


@dataclass(frozen=True)
class Bottlenecks:
    """The bottlenecks of one split.

    `features` is float32 [photos, features]; `labels` int64 [photos], an index into
    `breeds`; `paths` the photos' paths relative to their folder, in the same order;
    `left_out` those of the photos that could not be used. `provenance` says what the
    bottlenecks were made from.
    """

    features: np.ndarray
    labels: np.ndarray
    breeds: list[str]
    paths: list[str]
    left_out: list[str]
    provenance: dict

    def __str__(self) -> str:
        n, width = self.features.shape
        return f"{n} bottlenecks of {width} features"


def extract(choice: Choice, squares: Squares | None = None) -> dict[str, Bottlenecks]:
    """The bottlenecks of each split; what is not there yet is computed.

    An extraction that was cut off goes on after its last whole batch. The result is
    one ``.npz`` a split; nothing in it can run.
    """
    squares = squares or square(choice)
    module = describe(choice)
    folder = choice.folder("bottlenecks", squares.size)
    result = {}
    for split in squares.paths:
        file = folder / f"{split}.npz"
        provenance = {
            "photos": choice.photos,
            "module": choice.module,
            "size": squares.size,
            "stamps": [squares.stamps[split], module.stamp],
        }
        stored = read_bottlenecks(file, provenance)
        if stored:
            log.info("bottlenecks of %s: nothing to do", split)
        else:
            with choice.lock():  # another process may have made them meanwhile
                stored = read_bottlenecks(file, provenance) or _extract_split(
                    squares, split, module, file, provenance
                )
        _rows_file(file).unlink(missing_ok=True)
        result[split] = stored
    return result


def features_of(
    network: Callable, jpegs: list[Path] | list[bytes]
) -> Iterator[np.ndarray]:
    """Yield the bottlenecks of JPEGs (files or bytes) in batches of up to 32.

    Each is float32 [batch, features]. TensorFlow reads and decodes the squares to
    come, as float32 RGB in [0, 1], while the module works on these.
    """
    tf = tensorflow()

    def pixels(jpeg):
        # exactly as Pillow decodes: by default TensorFlow trades that for speed
        image = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.cast(image, tf.float32) / 255

    if isinstance(jpegs[0], bytes):
        data = tf.data.Dataset.from_tensor_slices(jpegs)
    else:
        names = [os.fsencode(path) for path in jpegs]
        data = tf.data.Dataset.from_tensor_slices(names).map(tf.io.read_file)
    squares = data.map(pixels, num_parallel_calls=tf.data.AUTOTUNE)
    for batch in squares.batch(BATCH).prefetch(tf.data.AUTOTUNE):
        try:
            yield network(batch).numpy().astype(np.float32, copy=False)
        except (tf.errors.OpError, ValueError) as error:
            size = " x ".join(map(str, batch.shape[1:3]))
            raise ModuleError(
                f"the module cannot take squares of {size} pixels: try another --size"
            ) from error


def read_bottlenecks(file: Path, provenance: dict | None = None) -> Bottlenecks | None:
    """Read one split's file; None if there is none, or none of that provenance."""
    fields = read_arrays(file, provenance)
    return Bottlenecks(**fields) if fields else None


def _extract_split(
    squares: Squares, split: str, module: Module, file: Path, provenance: dict
) -> Bottlenecks:
    paths = squares.paths[split]
    files = [squares.square_of(path) for path in paths]
    labels = [squares.breeds.index(path.split("/")[1]) for path in paths]
    made = Bottlenecks(
        _compute_rows(files, module, _rows_file(file), provenance),
        np.array(labels, dtype=np.int64),
        squares.breeds,
        paths,
        list(squares.left_out[split]),
        provenance,
    )
    write_arrays(file, vars(made))
    return made


def _compute_rows(
    files: list[Path], module: Module, rows: Path, provenance: dict
) -> np.ndarray:
    """Append batch after batch to a file; what it holds already is not done again."""
    header = json.dumps(provenance).encode() + b"\n"
    row = 4 * module.features
    done = _rows_done(rows, header, row)
    rows.parent.mkdir(parents=True, exist_ok=True)
    with open(rows, "r+b" if done else "wb") as out:
        out.write(header)
        out.seek(len(header) + done * row)
        out.truncate()
        if done < len(files):
            batches = features_of(load(module.handle, module.stamp), files[done:])
            total, first = math.ceil(len(files) / BATCH), done // BATCH
            for batch in progress(batches, total, f"bottlenecks, {rows.stem}", first):
                out.write(batch.tobytes())
                out.flush()
    features = np.fromfile(rows, np.float32, offset=len(header))
    return features.reshape(len(files), module.features)


def _rows_done(rows: Path, header: bytes, row: int) -> int:
    """How many rows, in whole batches, an extraction that was cut off has left."""
    try:
        with open(rows, "rb") as stored:
            if stored.readline() != header:
                return 0
            n_bytes = stored.seek(0, os.SEEK_END) - len(header)
    except OSError:
        return 0
    return n_bytes // row // BATCH * BATCH


def _rows_file(file: Path) -> Path:
    return file.with_suffix(".rows")
