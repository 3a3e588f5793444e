"""dogtl: image transfer learning, step by step.

    photos = dogtl.load_photos()
    module = dogtl.load_module()
    squares = dogtl.square(photos, module.size)
    bottlenecks = dogtl.extract(squares, module)
    layer = dogtl.train(bottlenecks)
    evaluation = dogtl.evaluate(layer, bottlenecks["test"])

Each line is one step. The slow ones store their results, so a second run is quick.
"""

__version__ = "1.0.0"  # above the imports, because dogtl.exports imports it

from importlib import import_module

from dogtl import toy
from dogtl.base import DogtlError
from dogtl.bottlenecks import (
    Bottlenecks,
    extract,
    extract_features,
    near_duplicates,
    read_square,
)
from dogtl.evaluation import (
    Evaluation,
    confused_pairs,
    confusion_table,
    evaluate,
    mcnemar_test,
    most_confident_errors,
    per_breed,
    wilson_interval,
)
from dogtl.exports import export, load_model
from dogtl.frameworks import import_tensorflow
from dogtl.linear import (
    LinearLayer,
    cross_entropy,
    fit,
    history_table,
    loss_and_gradient,
    softmax,
    train,
)
from dogtl.modules import MODULES, Module, load_module
from dogtl.photos import Photos, UnreadablePhoto, load_photos, read_photo
from dogtl.prediction import predict
from dogtl.squares import Squares, make_square, square


def __getattr__(name: str):
    if name == "figures":  # imported at first use, because matplotlib takes long
        return import_module("dogtl.figures")
    raise AttributeError(f"module 'dogtl' has no attribute {name!r}")
