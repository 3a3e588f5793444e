"""Step 1, squares: cut every photo to its centre square and downsample it."""

from __future__ import annotations

import errno
import io
import json
import warnings
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

from dogtl.choices import Choice, digest, log, progress, whole
from dogtl.modules import input_size
from dogtl.photos import Photos, PhotosError, UnreadablePhoto, find_photos, read_photo

if TYPE_CHECKING:
    from PIL.Image import Image

JOURNAL = "squares.jsonl"


@dataclass(frozen=True)
class Squares:
    """All photos as squares of `size` x `size` pixels, JPEGs under `folder`.

    `paths` lists for each split the photos, relative to `photos`; `square_of` names
    a photo's square. `left_out` gives for each split the photos that could not be
    used, with the reason. A split's stamp in `stamps` changes when its photos do.
    """

    folder: Path
    photos: Path
    size: int
    breeds: list[str]
    paths: dict[str, list[str]]
    left_out: dict[str, dict[str, str]]
    stamps: dict[str, str]

    def square_of(self, path: str) -> Path:
        """The file of a photo's square."""
        return self.folder / square_name(path)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.paths[split])} {split}" for split in self.paths)
        n_left_out = sum(map(len, self.left_out.values()))
        return (
            f"{counts} squares of {self.size} x {self.size} pixels,"
            f" {len(self.breeds)} breeds, {n_left_out} left out"
        )


def make_square(image: Image, size: int) -> Image:
    """Cut an image to its centre square and downsample that to `size` x `size`.

    Takes and gives a PIL image. If an odd number of pixels must go, one more goes
    on the right or at the bottom. Lanczos filtering, so that fine patterns blur
    instead of turning into coarse ones; images that are too small are enlarged.
    """
    from PIL.Image import Resampling

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Resampling.LANCZOS, box, reducing_gap=3.0)


def square_jpeg(photo: Path, size: int) -> bytes:
    """A photo's square as the bytes of a JPEG: quality 95, full colour resolution.

    Raises UnreadablePhoto.
    """
    image = make_square(read_photo(photo, short_side=2 * size), size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return buffer.getvalue()


def square_name(path: str) -> str:
    """The path of a photo's square: a.jpg stays, a.png becomes a.png.jpg.

    No two photos share one: names with several dots get a suffix too, those with none
    get another.
    """
    stem, dot, suffix = path.rpartition("/")[2].partition(".")
    if dot and suffix == "jpg":
        return path
    return f"{path}.jpg" if dot else f"{path}.jpeg"


def square(choice: Choice) -> Squares:
    """Make the squares of all chosen photos that are not there yet, on all cores.

    Photos that cannot be read are named in a warning and left out. Raises
    PhotosError if a split has no readable photo, or at the first unreadable one if
    the choice is strict.
    """
    photos = find_photos(choice)
    size = input_size(choice)
    folder = choice.folder("squares", size, module=False)
    done = _read_journal(folder)
    if _is_complete(photos, folder, done):
        log.info("squares: nothing to do")
    else:
        with choice.lock():
            done = _make_squares(photos, folder, size, choice.strict)
    squares = _collect(photos, folder, size, done)
    _name_left_out(squares, choice.strict)
    return squares


def _make_squares(photos: Photos, folder: Path, size: int, strict: bool) -> dict:
    """Make what is missing; each finished photo adds a line to the journal."""
    done = _read_journal(folder)  # again: another process may have had the lock
    wanted = _wanted(photos)
    done = {
        p: entry for p, entry in done.items() if _is_current(p, entry, wanted, folder)
    }
    _tidy(folder, {square_name(path) for path in done})
    todo = [path for path in wanted if path not in done]

    def work(path: str) -> tuple[str, str | None]:
        try:
            jpeg = square_jpeg(photos.folder / path, size)
            with whole(folder / square_name(path)) as part:
                part.write_bytes(jpeg)
        except UnreadablePhoto as error:
            return path, str(error)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return path, "its name leaves no room for the name of its square"
        return path, None

    _write_journal(folder, done)
    with (
        open(folder / JOURNAL, "a", encoding="utf-8") as journal,
        warnings.catch_warnings(action="ignore"),  # Pillow's, about odd metadata
        ThreadPool() as pool,
    ):
        results = pool.imap_unordered(work, todo)
        for path, error in progress(results, len(wanted), "squares", len(done)):
            done[path] = (*wanted[path], error)
            journal.write(json.dumps([path, *done[path]]) + "\n")
            journal.flush()
            if error and strict:
                raise PhotosError(f"{photos.folder / path} cannot be used: {error}")
    _write_journal(folder, {path: done[path] for path in wanted})
    return done


def _wanted(photos: Photos) -> dict[str, tuple[int, int]]:
    return {path: s for split in photos.stamps.values() for path, s in split.items()}


def _is_current(path: str, entry: tuple, wanted: dict, folder: Path) -> bool:
    *stamp, error = entry
    made = error or (folder / square_name(path)).exists()
    return bool(made) and wanted.get(path) == tuple(stamp)


def _is_complete(photos: Photos, folder: Path, done: dict) -> bool:
    wanted = _wanted(photos)
    return done.keys() == wanted.keys() and all(
        _is_current(path, entry, wanted, folder) for path, entry in done.items()
    )


def _tidy(folder: Path, keep: set[str]) -> None:
    """Take away squares of photos that are gone or changed, and unfinished files."""
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        if file.name != JOURNAL and file.relative_to(folder).as_posix() not in keep:
            file.unlink()


def _read_journal(folder: Path) -> dict[str, tuple]:
    try:
        lines = (folder / JOURNAL).read_text("utf-8").split("\n")[:-1]
        return {path: tuple(entry) for path, *entry in map(json.loads, lines)}
    except (OSError, ValueError):
        return {}


def _write_journal(folder: Path, done: dict[str, tuple]) -> None:
    lines = [json.dumps([path, *entry]) + "\n" for path, entry in done.items()]
    with whole(folder / JOURNAL) as part:
        part.write_text("".join(lines), "utf-8")


def _collect(photos: Photos, folder: Path, size: int, done: dict) -> Squares:
    paths, left_out, stamps = {}, {}, {}
    for split, files in photos.stamps.items():
        unread = {path: done[path][-1] for path in files if done[path][-1]}
        left_out[split] = photos.left_out[split] | unread
        paths[split] = [path for path in files if path not in unread]
        stamps[split] = digest(photos.breeds, size, files, left_out[split])
    return Squares(folder, photos.folder, size, photos.breeds, paths, left_out, stamps)


def _name_left_out(squares: Squares, strict: bool) -> None:
    left_out = {
        p: why for split in squares.left_out.values() for p, why in split.items()
    }
    for path, reason in left_out.items():
        if strict:
            raise PhotosError(f"{squares.photos / path} cannot be used: {reason}")
        log.warning("left out %s: %s", path, reason)
    if left_out:
        log.warning("%d photos left out", len(left_out))
    for split, paths in squares.paths.items():
        if not paths:
            raise PhotosError(f"{squares.photos} has no {split} photo that can be read")
