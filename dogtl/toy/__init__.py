"""The embedded default: a kennel that draws its own photos, and the toy module.

    scenery    what is behind a dog and before it
    brush      draws one dog, real or imaginary, from a few numbers
    kennel     twelve breeds, their photos and where these lie
    pretrain   trains the module on imaginary species
    module/    the small network that it made, in TF Hub's format

The four are attributes, imported when they're first used: importing this package
imports neither Pillow nor TensorFlow.
"""

from importlib import import_module
from pathlib import Path

MODULE = Path(__file__).parent / "module"
SIBLINGS = Path(__file__).parent / "siblings"


def __getattr__(name: str):
    if name in ("scenery", "brush", "kennel", "pretrain"):
        return import_module(f"dogtl.toy.{name}")
    raise AttributeError(f"module 'dogtl.toy' has no attribute {name!r}")
