"""The command line: ``dogtl fetch | square | extract | train | evaluate | ...``."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import dogtl
from dogtl import linear, store
from dogtl.base import DogtlError, choose, is_word, log, slug
from dogtl.modules import MAX_SIZE

EPILOG = """The steps first do the earlier ones that aren't done; predict needs a layer
that train or run left. Photos are a known word or a path (with a /), the module may be
an address too. DOGTL_PHOTOS, DOGTL_MODULE, DOGTL_SIZE and DOGTL_HOME are used where an
option isn't given, and DOGTL_DOGS_URL (an address, a zip or a folder) where the dogs
come from elsewhere."""
MAX_CONFUSION_BREEDS = 20  # breeds; a larger matrix can't be read on a page
STYLE = Path(__file__).with_name("figures.mplstyle")
CODE = store.code_version(str(STYLE.with_suffix(".py")), str(STYLE), "matplotlib")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if done, 1 if it couldn't (2, usage, exits)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")  # for odd names
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="dogtl: %(message)s", stream=sys.stderr, force=True)
    log.setLevel(logging.INFO)
    options.home = store.find_home(options.home)
    try:
        return options.command(options) or 0
    except DogtlError as error:
        print(f"dogtl: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"dogtl: {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dogtl: stopped; the same command continues from here", file=sys.stderr)
        return 130


def fetch(options: argparse.Namespace) -> None:
    """Download photos and module in advance, for machines without network."""
    print(f"photos    {_photos(options).folder}")
    print(f"module    {_module(options).folder}")
    print(f"to work offline elsewhere, copy with the files' times: {options.home}")


def square(options: argparse.Namespace) -> None:
    """Cut the photos to squares and downsample them."""
    squares = _squares(options, _module(options))
    print(squares)
    print(f"saved in {squares.files['train'][0].parents[1]}")


def extract(options: argparse.Namespace) -> None:
    """Extract the squares' bottlenecks with the module."""
    module = _module(options)
    bottlenecks = dogtl.extract(_squares(options, module), module, options.home)
    for split, made in bottlenecks.items():
        print(f"{split}: {made}")


def train(options: argparse.Namespace) -> None:
    """Train the linear layer on the bottlenecks."""
    _, _, layer, _ = _all_steps(options)
    linear.save_layer(layer, _layer_file(options))
    print("epoch  " + "  ".join(f"{name:>14}" for name in layer.history))
    for epoch, row in enumerate(zip(*layer.history.values(), strict=True), start=1):
        print(f"{epoch:5}  " + "  ".join(f"{value:14.4f}" for value in row))
    print(layer)


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate the linear layer on the held-out test photos."""
    squares, module, _, evaluation = _all_steps(options)
    if options.json:
        print(json.dumps(_summary(squares, module, evaluation), indent=2))
    else:
        _print_evaluation(evaluation)


def predict(options: argparse.Namespace) -> int:
    """Predict the breeds of photos, with the layer that train or run left."""
    file = _layer_file(options)
    layer = linear.read_layer(file)
    if layer is None:
        there = ", ".join(sorted(other.stem for other in file.parent.glob("*.npz")))
        raise DogtlError(
            f"there is no trained layer {file.stem}: run dogtl train with the same"
            f" options first (there are: {there or 'none'})"
        )
    results = dogtl.predict(layer, _module(options), options.photo)
    if options.json:
        print(json.dumps(results, indent=2))
    for result in results:
        if "error" in result:
            print(f"dogtl: {result['photo']}: {result['error']}", file=sys.stderr)
        elif not options.json:
            print(result["photo"])
            for one in result["predictions"]:
                print(f"  {one['probability']:6.1%}  {one['breed']}")
    return int(any("error" in result for result in results))


def run(options: argparse.Namespace) -> None:
    """Do everything: squares, bottlenecks, linear layer, evaluation and figures."""
    squares, module, layer, evaluation = _all_steps(options)
    linear.save_layer(layer, _layer_file(options))
    folder = options.home / "figures" / _run_name(options)
    folder = _draw(squares, module, layer, evaluation, folder)
    print(f"photos    {squares}")
    print(f"module    {module}")
    print(f"layer     {layer}")
    print(f"figures   {folder}")
    _print_evaluation(evaluation)


def _photos(options: argparse.Namespace) -> dogtl.Photos:
    return dogtl.load_photos(options.photos, options.home)


def _module(options: argparse.Namespace) -> dogtl.Module:
    return dogtl.load_module(options.module, options.size, options.home)


def _squares(options: argparse.Namespace, module: dogtl.Module) -> dogtl.Squares:
    squares = dogtl.square(_photos(options), module.size, options.home)
    for skipped in squares.skipped.values() if options.strict else ():
        for path, reason in skipped.items():
            raise DogtlError(f"{path} can't be used: {reason}")
    return squares


def _all_steps(options: argparse.Namespace) -> tuple:
    module = _module(options)
    squares = _squares(options, module)
    bottlenecks = dogtl.extract(squares, module, options.home)
    layer = dogtl.train(bottlenecks, options.seed, options.home)
    return squares, module, layer, dogtl.evaluate(layer, bottlenecks["test"])


def _run_name(options: argparse.Namespace) -> str:
    """Return a readable name for what was chosen; two choices never share one."""
    chosen = [
        choose(options.photos, "DOGTL_PHOTOS", "kennel"),
        choose(options.module, "DOGTL_MODULE", "toy"),
    ]
    parts = [
        c if is_word(c) else f"{slug(c)}-{store.fingerprint(c)[:8]}" for c in chosen
    ]
    size = options.size or os.environ.get("DOGTL_SIZE")
    parts += [f"size-{size}"] if size else []
    parts += [f"seed-{options.seed}"] if options.seed else []
    return "-".join(parts)


def _layer_file(options: argparse.Namespace) -> Path:
    """Return where train and run leave the layer that predict reads."""
    return options.home / "layers" / f"{_run_name(options)}.npz"


def _summary(squares, module, evaluation: dogtl.Evaluation) -> dict:
    return {
        "accuracy": evaluation.accuracy,
        "interval": list(evaluation.interval),
        "top5": evaluation.top5,
        "n_photos": len(evaluation.labels),
        "n_breeds": len(evaluation.breeds),
        "n_skipped": sum(map(len, squares.skipped.values())),
        "photos": squares.name,
        "module": module.name,
    }


def _draw(squares, module, layer, evaluation: dogtl.Evaluation, folder: Path) -> Path:
    """Draw a run's figures, unless they're there; return their folder.

    A hash of what they show ends its name, so that old and new never mix.
    """
    tables = {
        "training_curves": dogtl.history_table(layer),
        "per_breed": dogtl.per_breed(evaluation),
        "confused_pairs": dogtl.confused_pairs(evaluation),
    }
    if len(evaluation.breeds) <= MAX_CONFUSION_BREEDS:
        tables["confusion"] = dogtl.confusion_table(evaluation)
    errors = dogtl.most_confident_errors(evaluation)
    files = [squares.files["test"][row] for row in errors["row"]]
    summary = _summary(squares, module, evaluation)
    key = store.fingerprint(CODE, tables, summary, [file.name for file in files])
    folder = folder.with_name(f"{folder.name}-{key[:8]}")
    text = json.dumps(summary, indent=1) + "\n"
    store.atomic_write(folder / "evaluation.json", text.encode())
    drawn = [f"{name}.{end}" for name in tables for end in ("png", "pdf", "csv")]
    drawn += ["most_confident_errors.png", "most_confident_errors.pdf"]
    there = [file for file in map(folder.joinpath, drawn) if file.exists()]
    if len([file for file in there if file.stat().st_size]) == len(drawn):
        log.info("figures: nothing to do")
        return folder
    for name, table in tables.items():
        dogtl.figures.publish(getattr(dogtl.figures, name), table, folder)
    images = [dogtl.read_square(file) for file in files]
    figure = dogtl.figures.most_confident_errors(images, errors)
    dogtl.figures.save(figure, "most_confident_errors", folder)
    store.sweep(folder)
    return folder


def _print_evaluation(evaluation: dogtl.Evaluation) -> None:
    pairs = dogtl.confused_pairs(evaluation)
    for breed, prediction, photos in zip(*pairs.values(), strict=True):
        print(f"{photos:3} photos of {breed} taken for {prediction}")
    if evaluation.top5 is not None:
        print(f"top-5 accuracy {evaluation.top5:.3f}")
    print(evaluation)


def _parser() -> argparse.ArgumentParser:
    about = "Name the breed in a photo by transfer learning."
    parser = argparse.ArgumentParser(prog="dogtl", description=about, epilog=EPILOG)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (fetch, square, extract, train, evaluate, predict, run):
        text = command.__doc__
        sub = commands.add_parser(
            command.__name__, help=text, description=text, epilog=EPILOG
        )
        add = sub.add_argument
        sub.set_defaults(command=command)
        if command is predict:
            add("photo", nargs="+", metavar="PHOTO", help="a photo's file")
        if command in (evaluate, predict):
            add("--json", action="store_true", help="print JSON")
        add("--photos", help="kennel, dogs or a folder (kennel)")
        add("--module", help="a known word, a folder or a handle (toy)")
        add("--size", type=_whole(1, MAX_SIZE), help="the squares' side in pixels")
        add("--home", type=Path, help="where generated files go (data/)")
        add(
            "--seed",
            type=_whole(0, 2**63),
            default=0,
            help="random seed (0)",
        )
        add("--strict", action="store_true", help="stop if a photo can't be used")
    return parser


def _whole(low: int, high: int):
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(
                f"{text!r} isn't a whole number from {low} to {high}"
            )
        return int(text)

    return parse
