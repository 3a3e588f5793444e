"""The command line: ``dogtl fetch | square | extract | train | evaluate | ...``."""

import argparse
import csv
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import dogtl
from dogtl import cluster, exports, linear, prediction, store
from dogtl.base import DogtlError, choose, is_word, log, plural, slug, why

COMMANDS = {
    "fetch": "Get photos and module in advance, for machines without network.",
    "square": "Cut the photos to squares and downsample them.",
    "extract": "Extract the squares' bottlenecks with the module.",
    "train": "Train the linear layer on the bottlenecks.",
    "evaluate": "Evaluate the linear layer on the held-out test photos.",
    "run": "Do everything: squares, bottlenecks, linear layer, evaluation and figures.",
    "export": "Write module and linear layer as one model that TensorFlow loads alone.",
    "predict": "Predict the breeds of photos, with the layer that train or run left.",
}
EPILOG = """The steps first do the earlier ones that aren't done; predict needs a layer
that train or run left. Photos are a known word or a path (with a /, or to a CSV file),
the module may be an address too. DOGTL_PHOTOS, DOGTL_MODULE, DOGTL_SIZE and DOGTL_HOME
are used where an option isn't given, and DOGTL_DOGS_URL (an address, a zip or a folder)
where the dogs come from elsewhere."""
MAX_CONFUSION_BREEDS = 20  # breeds; a larger matrix can't be read on a page
STYLE = Path(__file__).with_name("figures.mplstyle")
CODE = store.code_version(str(STYLE.with_suffix(".py")), str(STYLE), "matplotlib")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if done, 1 if it couldn't (2, usage, exits)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115 (closed)
        stream.reconfigure(errors="backslashreplace")  # for odd names
        setattr(sys, name, stream)
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # argparse itself would show dogtl's usage, not this command's
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    logging.basicConfig(format="dogtl: %(message)s", stream=sys.stderr, force=True)
    log.setLevel(logging.WARNING if options.quiet else logging.INFO)
    if not options.model:  # which needs no home
        options.home = store.find_home(options.home)
    try:
        if options.command == "predict":
            return _predict(options)
        with cluster.connect(options.cluster) as client:
            for command, text in _steps(options, client):
                if command == options.command or not (options.json or options.quiet):
                    print(text)
                if command == options.command:
                    return 0
    except DogtlError as error:
        log.error("%s", error)
    except OSError as error:
        log.error("%s: %s", error.filename or "the output", why(error))
    except KeyboardInterrupt:
        log.error("stopped; the same command continues from here")
        return 130
    return 1


def _parser() -> argparse.ArgumentParser:
    about = "Name the breed in a photo by transfer learning."
    parser = argparse.ArgumentParser(prog="dogtl", description=about, epilog=EPILOG)
    parser.set_defaults(json=False, cluster=None, splits=None, model=None)
    parser.add_argument("--version", action="version", version=dogtl.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, text in COMMANDS.items():
        texts = {"help": text, "description": text, "epilog": EPILOG}
        subparser = commands.add_parser(command, **texts)
        subparser.set_defaults(parser=subparser)
        add = subparser.add_argument
        if command == "predict":
            add("photo", nargs="+", metavar="PHOTO", help="a file, or a folder of them")
            add("--model", metavar="FOLDER", help="use what dogtl export wrote there")
            add("--top", type=int, default=5, metavar="N", help="breeds to name (5)")
            add("--csv", type=Path, metavar="FILE", help="write a row a photo there")
        if command == "fetch":
            add("--splits", type=Path, metavar="FILE", help="list the photos in a CSV")
        if command == "export":
            add("folder", metavar="FOLDER", help="the folder to write")
            add("--tflite", action="store_true", help="write model.tflite too")
        if command in ("evaluate", "predict"):
            add("--json", action="store_true", help="print JSON")
        add("--photos", help="kennel, dogs, a folder or a CSV (kennel)")
        add("--module", help="a known word, a folder, a .keras file or a handle (toy)")
        add("--size", type=int, help="the squares' side in pixels")
        add("--home", type=Path, help="where generated files go (data/)")
        if command not in ("fetch", "predict"):
            add(
                "--cluster", metavar="ADDRESS", help="a Dask scheduler: tcp://host:8786"
            )
        add("--strict", action="store_true", help="stop if a photo can't be used")
        quiet = "print the result alone, with warnings and errors"
        add("-q", "--quiet", action="store_true", help=quiet)
    return parser


def _steps(options: argparse.Namespace, client=None) -> Iterator[tuple[str, str]]:
    """Do one step after another; yield its command, and what to print."""
    home = options.home
    if options.command == "export":
        exports.check_folder(options.folder)  # rather than after hours
    module = dogtl.load_module(options.module, options.size, home)
    photos = dogtl.load_photos(options.photos, home)
    if options.splits:
        dogtl.photos.write_splits(photos, options.splits)
    yield "fetch", f"{photos}\n  in {photos.folder}\n{module}\n  in {module.folder}"
    squares = dogtl.square(photos, module.size, home, client)
    skipped = [item for some in squares.skipped.values() for item in some.items()]
    if options.strict and skipped:
        path, reason = skipped[0]
        raise DogtlError(f"{path} can't be used: {reason}; take it away or mend it")
    yield "square", f"{squares}\n  in {squares.files['train'][0].parents[1]}"
    bottlenecks = dogtl.extract(squares, module, home, client)
    yield "extract", "\n".join(f"{s}: {made}" for s, made in bottlenecks.items())
    layer = dogtl.train(bottlenecks, home)
    linear.save_layer(layer, _layer_file(options))
    yield "train", str(layer)
    evaluation = dogtl.evaluate(layer, bottlenecks["test"])
    summary = _summary(evaluation, squares, module)
    text = json.dumps(summary, indent=2) if options.json else _report(evaluation)
    yield "evaluate", text
    if options.command == "export":
        made_of = (evaluation, options.tflite, Path(squares.name).name)
        folder = dogtl.export(layer, module, options.folder, *made_of)
        yield "export", f"model in {folder}"
    figures = home / "figures" / _layer_file(options).stem
    yield "run", f"figures in {_draw(squares, layer, evaluation, figures)}"


def _summary(evaluation: dogtl.Evaluation, squares, module) -> dict:
    return {
        "accuracy": evaluation.accuracy,
        "interval": evaluation.interval,
        "top5": evaluation.top5,
        "n_photos": len(evaluation.labels),
        "n_breeds": len(evaluation.breeds),
        "n_skipped": sum(map(len, squares.skipped.values())),
        "photos": squares.name,
        "module": module.name,
    }


def _report(evaluation: dogtl.Evaluation) -> str:
    pairs = list(zip(*dogtl.confused_pairs(evaluation).values(), strict=True))
    lines = [f"{n:3} of {breed} taken for {other}" for breed, other, n, _ in pairs]
    if pairs and pairs[-1][-1]:
        n, more = pairs[-1][-2:]
        lines.append(f"and {more} more {plural(more, 'pair')}, at most {n} each")
    if evaluation.top5 is not None:
        lines.append(f"top-5 accuracy {evaluation.top5:.3f}")
    return "\n".join([*lines, str(evaluation)])


def _draw(squares, layer, evaluation: dogtl.Evaluation, folder: Path) -> Path:
    """Draw the figures that aren't there; return their folder.

    A hash of what they show ends its name, so that old and new never mix.
    """
    errors = dogtl.most_confident_errors(evaluation)
    files = [squares.files["test"][row] for row in errors["row"]]
    errors["photo"] = [os.path.relpath(p, squares.folder) for p in errors["photo"]]
    errors["square"] = [file.name for file in files]
    tables = {
        "training_curves": dogtl.history_table(layer),
        "per_breed": dogtl.per_breed(evaluation),
        "confused_pairs": dogtl.confused_pairs(evaluation),
        "most_confident_errors": errors,
    }
    if len(evaluation.breeds) <= MAX_CONFUSION_BREEDS:
        tables["confusion"] = dogtl.confusion_table(evaluation)
    style = os.environ.get("DOGTL_STYLE")
    look = Path(style).read_text("utf-8") if style else ""
    made = store.fingerprint(CODE, look, tables)
    folder = folder.with_name(f"{folder.name}-{made[:8]}")
    for name, table in tables.items():
        made = [folder / f"{name}.{suffix}" for suffix in ("csv", "png", "pdf")]
        if all(file.exists() and file.stat().st_size for file in made):
            continue
        more = {}
        if table is errors:
            more["images"] = [dogtl.read_square(file) for file in files]
        dogtl.figures.publish(getattr(dogtl.figures, name), table, folder, **more)
    store.sweep(folder)
    return folder


def _predict(options: argparse.Namespace) -> int:
    layer, module = _load_trained(options)
    results = prediction.predict_each(layer, module, options.photo, options.top)
    if options.csv:
        results = _write_rows(results, options.csv, min(options.top, len(layer.breeds)))
    entries, code = [], 0
    for result in results:
        if options.json:
            entries.append(result)
        if "error" in result:
            log.error("%s: %s", result["photo"], result["error"])
            code = 1
            if options.strict:
                break
        elif not (options.json or options.csv):
            print(result["photo"])
            for one in result["predictions"]:
                print(f"  {one['probability']:6.1%}  {one['breed']}")
    if options.json:
        print(json.dumps(entries, indent=2))
    return code


def _write_rows(results: Iterator[dict], file: Path, top: int) -> Iterator[dict]:
    """Write a row of a CSV file for each result, and yield it."""
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    names = [name + rank for rank in ranks for name in ("breed", "probability")]
    with open(file, "w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["photo", *names, "error"])
        for result in results:
            best = result.get("predictions", [dict.fromkeys("bp", "")] * top)
            cells = [cell for one in best for cell in one.values()]
            rows.writerow([result["photo"], *cells, result.get("error", "")])
            yield result


def _load_trained(options: argparse.Namespace) -> tuple:
    """Return layer and module; an exported model is both."""
    if options.model:
        model = dogtl.load_model(options.model)
        return model, model
    file = _layer_file(options)
    layer = linear.read_layer(file)
    if layer is None:
        there = ", ".join(sorted(other.stem for other in file.parent.glob("*.npz")))
        raise DogtlError(
            f"there is no trained layer {file.stem}: run dogtl train with the same"
            f" options first (there are: {there or 'none'})"
        )
    log.info("layer %s", file)
    return layer, dogtl.load_module(options.module, options.size, options.home)


def choice_name(photos=None, module=None, size=None) -> str:
    """Return what names the files of a choice; two choices never share one."""
    photos = choose(photos, "DOGTL_PHOTOS", "kennel")
    module = choose(module, "DOGTL_MODULE", "toy")
    size = size or os.environ.get("DOGTL_SIZE")
    parts = [
        choice if is_word(choice) else f"{slug(choice)}-{store.fingerprint(choice)[:8]}"
        for choice in (photos, module)
    ]
    return "-".join([*parts, f"size-{size}"] if size else parts)


def _layer_file(options: argparse.Namespace) -> Path:
    """Return where the layer lies that predict reads."""
    name = choice_name(options.photos, options.module, options.size)
    return options.home / "layers" / f"{name}.npz"
