"""Step 0, photos: find them, list them and read any of them as RGB."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dogtl.choices import (
    Choice,
    DogtlError,
    digest,
    find_root,
    is_word,
    log,
    progress,
)
from dogtl.fetch import FetchError, fetch_folder, local_path, manifest

SPLITS = {
    "train": ("train",),
    "valid": ("valid", "validation", "val"),
    "test": ("test",),
}
WORDS = ("kennel", "dogs")
DRAWN_BY = ("brush.py", "scenery.py", "kennel.py")
DOGS = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
PUBLISHED = {"train": 6680, "valid": 835, "test": 836, "breeds": 133}  # in DOGS


class PhotosError(DogtlError):
    """Photos that cannot be used as they are."""


class UnreadablePhoto(PhotosError):
    """One photo that cannot be read; the message says why."""


@dataclass(frozen=True)
class Photos:
    """A folder of photos, laid out as train|valid|test / breed / file.

    `breeds` are the folders in train, sorted. `stamps` gives for each split the
    photos' paths relative to `folder`, sorted, each with its size in bytes and its
    modification time in nanoseconds. `left_out` gives for each split what lies in the
    wrong place, with the reason.
    """

    folder: Path
    breeds: list[str]
    stamps: dict[str, dict[str, tuple[int, int]]]
    left_out: dict[str, dict[str, str]]


def find_photos(choice: Choice) -> Photos:
    """The chosen photos, listed. Kennel and dogs are drawn or fetched at first use.

    Raises PhotosError for an unknown word, for a folder that makes no sense and for
    dogs that cannot be fetched.
    """
    if not is_word(choice.photos):
        return list_photos(Path(choice.photos))
    if choice.photos not in WORDS:
        raise PhotosError(
            f"there are no photos called {choice.photos!r}: choose {' or '.join(WORDS)}"
            " or a folder (a path holds a /, as in ./mine)"
        )
    if choice.photos == "kennel":
        return list_photos(_drawn_kennel(choice))
    photos = list_photos(_fetched_dogs(choice))
    _compare_with_published(photos)
    return photos


def list_photos(folder: Path) -> Photos:
    """List the photos in train|valid|test / breed / file, without opening any.

    Hidden files are passed over. Raises PhotosError, in one sentence, if a split
    is missing or empty, if train has fewer than two breeds, or if another split
    has a breed that train lacks.
    """
    if not folder.is_dir():
        raise PhotosError(f"there is no folder {folder}: give one that holds train/")
    homes = {split: _split_folder(folder, split) for split in SPLITS}
    breeds = [entry.name for entry in _visible(homes["train"]) if entry.is_dir()]
    if len(breeds) < 2:
        raise PhotosError(
            f"{homes['train']} holds {len(breeds)} breed folder(s): put the photos of"
            " at least two breeds there, a folder each"
        )
    stamps: dict[str, dict] = {split: {} for split in SPLITS}
    left_out: dict[str, dict] = {split: {} for split in SPLITS}
    for split, home in homes.items():
        for entry in _visible(home):
            prefix = f"{home.name}/{entry.name}"
            if not entry.is_dir():
                left_out[split][prefix] = "it lies in no breed's folder"
            elif entry.name not in breeds:
                raise PhotosError(
                    f"{home} holds a breed that train lacks, {entry.name}:"
                    " add it to train or take it away"
                )
            else:
                _list_breed(entry.path, prefix, stamps[split], left_out[split])
    empty = set(breeds) - {path.split("/")[1] for path in stamps["train"]}
    bare = [homes["train"] / breed for breed in sorted(empty)]
    bare += [homes[split] for split in SPLITS if not stamps[split]]
    if bare:
        raise PhotosError(f"{bare[0]} holds no photos: put some there")
    return Photos(folder, breeds, stamps, left_out)


def read_photo(source: Path, short_side: int | None = None):
    """Read any photo that Pillow reads as an RGB image (PIL, uint8), upright.

    The EXIF orientation is applied, alpha is laid on white, 16-bit and float greys
    are scaled to 8 bits, and of several frames the first is taken. With
    `short_side` a JPEG may be decoded smaller, down to that many pixels, which is
    much faster. Raises UnreadablePhoto.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            if short_side:
                image.draft(None, (short_side, short_side))
            image.load()  # a TIFF turns itself upright then
            return _to_rgb(_upright(image))
    except UnidentifiedImageError:
        raise UnreadablePhoto("it is not an image that Pillow can read") from None
    except Exception as error:  # decoders raise nearly anything on broken files
        reason = getattr(error, "strerror", None) or str(error)
        reason = " ".join(reason.split()) or type(error).__name__
        raise UnreadablePhoto(reason) from error


def _upright(image):
    """Turn an image as its EXIF orientation says; broken EXIF data turns nothing."""
    from PIL.Image import Transpose as Turn

    mirrored = (Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM)
    on_its_side = (Turn.TRANSPOSE, Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90)
    turns = dict(enumerate(mirrored + on_its_side, start=2))
    try:
        turn = turns.get(image.getexif().get(274))
    except Exception:  # the pixels are fine all the same
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image):
    from PIL import Image

    if image.mode[0] in "IF":  # 16-bit, 32-bit and float greys: Pillow would clip them
        grey = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0)
        tops = (1, 255, 65535) if image.mode == "F" else (65535,)
        top = next((top for top in tops if grey.max() <= top), grey.max())
        image = Image.fromarray((grey.clip(0) * 255 / top + 0.5).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.clear()  # or a comment in the photo would be saved with its square
    return image


def _drawn_kennel(choice: Choice) -> Path:
    """The kennel's folder in the home; drawn at first use, and again by other code.

    Drawing that was cut off goes on, in a folder beside, which then takes its place.
    """
    folder = choice.home / "photos" / "kennel"
    sources = [Path(__file__).with_name("toy") / name for name in DRAWN_BY]
    recipe = digest([source.read_text("utf-8") for source in sources])
    unfinished = folder.with_name(f"kennel-{recipe}.part")
    note = "drawn-by.txt"
    if not _says(folder / note, recipe):
        from dogtl.toy.kennel import draw_kennel

        with choice.lock():
            if not _says(folder / note, recipe):  # another process may have drawn it
                draw_kennel(unfinished, progress=partial(progress, what="kennel"))
                (unfinished / note).write_text(recipe, "utf-8")
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.replace(folder)
    return folder


def _says(note: Path, text: str) -> bool:
    return note.exists() and note.read_text("utf-8") == text


def _fetched_dogs(choice: Choice) -> Path:
    """The dogs' folder in the home, fetched at first use; the user's own if given."""
    given = os.environ.get("DOGTL_DOGS_URL") or ""
    own = local_path(given) if given else None
    if own:
        own = find_root(Path.cwd()) / own.expanduser()
        given = str(own)
        if own.is_dir():
            return own
    folder = choice.home / "photos" / "dogs"

    def is_fetched() -> bool:  # whatever came in a home from elsewhere will do
        made_from = manifest(folder)
        if own and own.exists() and own.stat().st_size != made_from.get("archive"):
            return False
        return bool(made_from) and given in ("", made_from["source"])

    try:
        fetch_folder(given or DOGS, folder, is_fetched, choice.lock())
    except FetchError as error:
        raise PhotosError(str(error)) from error
    return folder


def _compare_with_published(photos: Photos) -> None:
    here = {split: len(files) for split, files in photos.stamps.items()}
    here["breeds"] = len(photos.breeds)
    other = [
        f"{here[what]:,} {what} instead of {number:,}"
        for what, number in PUBLISHED.items()
        if here[what] != number
    ]
    if other:
        log.warning("these are not the dogs as published: %s", ", ".join(other))


def _split_folder(folder: Path, split: str) -> Path:
    found = [folder / name for name in SPLITS[split] if (folder / name).is_dir()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(SPLITS[split])
    if found:
        raise PhotosError(f"{folder} holds more than one of {names}: keep one of them")
    raise PhotosError(f"{folder} holds no folder {names}: put the {split} photos there")


def _visible(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: entry.name)


def _list_breed(folder: str, prefix: str, stamps: dict, left_out: dict) -> None:
    for entry in _visible(Path(folder)):
        path = f"{prefix}/{entry.name}"
        try:
            stat = entry.stat()
        except OSError as error:  # a link to nowhere
            left_out[path] = error.strerror or "it cannot be opened"
            continue
        if entry.is_file():
            stamps[path] = (stat.st_size, stat.st_mtime_ns)
        else:
            left_out[path] = "it is no file: photos lie in the breed's folder itself"
