"""dogtl: image transfer learning, step by step.

Each step is a file and one function, which first does the steps before it that are
not done: `square`, `extract`, `train`, `evaluate`, `predict`. `choose` says on what.
"""

from dogtl.bottlenecks import extract
from dogtl.choices import Choice, DogtlError, choose
from dogtl.evaluation import evaluate, predict
from dogtl.linear import train
from dogtl.squares import square

__all__ = [
    "Choice",
    "DogtlError",
    "choose",
    "evaluate",
    "extract",
    "predict",
    "square",
    "train",
]
