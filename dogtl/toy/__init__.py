"""The embedded default: a kennel that draws its own photos, and the toy module.

    scenery    what is behind a dog and before it
    brush      draws one dog, real or imaginary, from a few numbers
    kennel     twelve breeds, their photos and where these lie
    variations draws a dog again with one thing changed, or a dog of your own
    pretrain   trains the module on imaginary species
    module/    the small network that it made, in TF Hub's format

The five are attributes, imported when they're first used: importing this package
imports neither Pillow nor TensorFlow.
"""

from importlib import import_module
from pathlib import Path

from dogtl import base, store

TOY = Path(__file__).parent
MODULE, SIBLINGS = TOY / "module", TOY / "siblings"
DRAWN_BY = [str(TOY / f"{name}.py") for name in ("brush", "scenery", "kennel")]
KENNEL = f"kennel-{store.code_version(*DRAWN_BY, 'pillow', 'numpy')}"


def kennel_folder(home: Path) -> Path:
    """Return the folder of the kennel's photos; missing and emptied ones are drawn."""
    folder = home / "photos" / KENNEL
    finished = folder / ".finished"  # holds the number of photos
    if not finished.is_file() or finished.read_bytes() != _count_photos(folder):
        import_module("dogtl.toy.kennel").draw_kennel(folder, progress=base.progress)
        store.sweep(folder)
        store.atomic_write(finished, _count_photos(folder))
    return folder


def _count_photos(folder: Path) -> bytes:
    """Return the number of photos as text; empty files are deleted first."""
    photos = list(folder.glob("*/*/*.jpg"))
    for empty in [photo for photo in photos if not photo.stat().st_size]:
        empty.unlink()
        photos.remove(empty)
    return str(len(photos)).encode()


def __getattr__(name: str):
    if name in ("scenery", "brush", "kennel", "variations", "pretrain"):
        return import_module(f"dogtl.toy.{name}")
    raise AttributeError(f"module 'dogtl.toy' has no attribute {name!r}")
