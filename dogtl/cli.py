"""The command line: ``dogtl fetch | square | extract | train | evaluate | ...``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dogtl import bottlenecks, evaluation, linear, modules, squares
from dogtl.choices import (
    MAX_SIZE,
    Choice,
    DogtlError,
    choose,
    digest,
    is_size,
    log,
    whole,
)
from dogtl.photos import find_photos

EPILOG = """Every command first does the earlier steps that are not done. Photos and
module are known words, paths (with a /) or handles; DOGTL_PHOTOS, DOGTL_MODULE,
DOGTL_SIZE and DOGTL_HOME are used where an option is not given, and DOGTL_DOGS_URL
(an address, a zip or a folder) where the dogs shall come from elsewhere."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 if done, 1 if it could not (2, usage, exits)."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names may be no valid UTF-8
    logging.basicConfig(format="dogtl: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger("dogtl").setLevel(logging.INFO)
    try:
        choice = choose(
            options.photos,
            options.module,
            options.size,
            options.home,
            options.seed,
            options.strict,
        )
        return options.command(choice, options) or 0
    except (DogtlError, OSError) as error:
        print(f"dogtl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dogtl: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def fetch(choice: Choice, options: argparse.Namespace) -> None:
    """Bring photos and module here, ahead of time for machines without network."""
    photos = find_photos(choice)
    module = modules.describe(choice)
    folder = Path(modules.fetch_module(module.handle))
    print(f"photos    {photos.folder}, {len(photos.breeds)} breeds")
    print(f"module    {folder}, {module.features} features")
    inside = (choice.home, Path(__file__).parent)  # what is embedded is there already
    away = [place for place in (photos.folder, folder) if not _lies_in(place, inside)]
    places = ", ".join(map(str, [choice.home, *away]))
    print(f"carry over, with the files' times: {places}")


def _lies_in(place: Path, folders: Sequence[Path]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)


def square(choice: Choice, options: argparse.Namespace) -> None:
    """Cut the photos to squares and downsample them."""
    made = squares.square(choice)
    print(made)
    print(f"they lie in {made.folder}")


def extract(choice: Choice, options: argparse.Namespace) -> None:
    """Extract the squares' bottlenecks with the module."""
    for split, made in bottlenecks.extract(choice).items():
        print(f"{split}: {made}")


def train(choice: Choice, options: argparse.Namespace) -> None:
    """Train the linear layer on the bottlenecks."""
    layer = linear.train(choice)
    print("epoch  " + "  ".join(f"{name:>14}" for name in layer.history))
    for epoch, row in enumerate(zip(*layer.history.values(), strict=True), start=1):
        print(f"{epoch:5}  " + "  ".join(f"{value:14.4f}" for value in row))
    print(layer)


def evaluate(choice: Choice, options: argparse.Namespace) -> None:
    """Evaluate the linear layer on the withheld test photos."""
    result = evaluation.evaluate(choice)
    if options.json:
        print(json.dumps(evaluation.summary(result, choice), indent=2))
    else:
        _print_evaluation(result)


def predict(choice: Choice, options: argparse.Namespace) -> int:
    """Guess the breeds of photos."""
    results = evaluation.predict(choice, options.photo)
    if options.json:
        print(json.dumps(results, indent=2))
    for result in [] if options.json else results:
        if "guesses" in result:
            print(result["photo"])
            for guess in result["guesses"]:
                print(f"  {guess['probability']:6.1%}  {guess['breed']}")
    bad = [result for result in results if "error" in result]
    for result in bad:
        print(f"dogtl: {result['photo']}: {result['error']}", file=sys.stderr)
    return 1 if bad else 0


def run(choice: Choice, options: argparse.Namespace) -> None:
    """Do everything: squares, bottlenecks, linear layer, evaluation and figures."""
    photos = squares.square(choice)
    vectors = bottlenecks.extract(choice, photos)
    layer = linear.train(choice, vectors)
    result = evaluation.evaluate(choice, vectors, layer)
    folder = choice.figures / f"size-{photos.size}-seed-{choice.seed}"
    note = folder / "evaluation.json"
    made_from = digest(layer.provenance, vectors["test"].provenance)
    facts = {**evaluation.summary(result, choice), "made_from": made_from}
    if note.exists() and json.loads(note.read_text("utf-8")) == facts:
        log.info("figures: nothing to do")
    else:
        with choice.lock():
            _draw(photos, layer, result, folder)
            with whole(note) as part:
                part.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    print(f"photos    {photos}")
    print(f"module    {choice.module}, {vectors['test'].features.shape[1]} features")
    print(f"layer     {layer}")
    print(f"figures   {folder}")
    _print_evaluation(result)


def _draw(
    photos: squares.Squares,
    layer: linear.LinearLayer,
    result: evaluation.Evaluation,
    folder: Path,
) -> None:
    from PIL import Image

    from dogtl import figures

    figures.publish(figures.learning_curves, linear.history_table(layer), folder)
    figures.publish(figures.per_breed, evaluation.per_breed(result), folder)
    if len(result.breeds) <= 20:
        table = evaluation.confusion_table(result)
        figures.publish(figures.confusion, table, folder)
    table = evaluation.confused_pairs(result)
    figures.publish(figures.confused_pairs, table, folder)
    wrong = evaluation.worst_mistakes(result)
    images = [Image.open(photos.square_of(path)) for path in wrong["photo"]]
    figures.save(figures.mistakes(images, wrong), "mistakes", folder)


def _print_evaluation(result: evaluation.Evaluation) -> None:
    pairs = evaluation.confused_pairs(result)
    for breed, guess, photos in zip(*pairs.values(), strict=True):
        print(f"{photos:3} photos of {breed} taken for {guess}")
    if result.top5 is not None:
        print(f"top-5 accuracy {result.top5:.3f}")
    print(result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dogtl",
        description="Name the breed in a photo by transfer learning.",
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (fetch, square, extract, train, evaluate, predict, run):
        _add_command(commands, command)
    return parser


def _add_command(commands: argparse._SubParsersAction, command: Callable) -> None:
    text = command.__doc__
    parser = commands.add_parser(
        command.__name__, help=text, description=text, epilog=EPILOG
    )
    parser.set_defaults(command=command)
    if command is predict:
        parser.add_argument("photo", nargs="+", metavar="PHOTO", help="a photo's file")
    if command in (evaluate, predict):
        parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--photos", help="kennel, dogs or a folder (kennel)")
    parser.add_argument("--module", help="a known word, a folder or a handle (toy)")
    parser.add_argument("--size", type=_pixels, help="the squares' side in pixels")
    parser.add_argument("--home", type=Path, help="where generated files go (data/)")
    parser.add_argument("--seed", type=_seed, default=0, help="of the training (0)")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad photo"
    )


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _pixels(text: str) -> int:
    if not is_size(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to {MAX_SIZE} pixels")
    return int(text)
