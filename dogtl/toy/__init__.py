"""The embedded default: a kennel that draws its own photos, and the toy module.

    scenery  what is behind a dog and before it
    brush    draws one dog, real or imaginary, from a few numbers
    kennel   twelve breeds, their photos and where these lie
    module/  a small network in TF Hub's format, trained on imaginary species

Importing this package imports neither Pillow nor TensorFlow.
"""

from pathlib import Path

MODULE = Path(__file__).parent / "module"
SIBLINGS = Path(__file__).parent / "siblings"
