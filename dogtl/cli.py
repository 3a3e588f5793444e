"""The command line: ``dogtl fetch | square | extract | train | evaluate | ...``."""

import argparse
import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import dogtl
from dogtl import cleanup, cluster, exports, linear, prediction, report, store, terminal
from dogtl.base import DogtlError, choose_photos, error_text, log, plural
from dogtl.bottlenecks import find_mismatch

COMMANDS = {
    "fetch": "Get photos and module in advance, for machines without network.",
    "square": "Cut the photos to squares and downsample them.",
    "extract": "Extract the squares' bottlenecks with the module.",
    "train": "Train the linear layer on the bottlenecks.",
    "evaluate": "Evaluate the linear layer on the held-out test photos.",
    "run": "Do everything: squares, bottlenecks, linear layer, evaluation and figures.",
    "export": "Write module and linear layer as one model that TensorFlow loads alone.",
    "predict": "Predict the breeds of photos, with the layer that train or run left.",
    "clean": "Delete results that can be made again: squares of photos that aren't"
    " chosen, bottlenecks and figures that belong to no trained layer, and what older"
    " versions left. Photos, modules and layers stay.",
}
EPILOG = """The steps first do the earlier ones that aren't done; predict and clean
need a layer that train or run left. Photos are a known word or a path (with a /, or to
a CSV file), the module may be an address too. DOGTL_PHOTOS, DOGTL_MODULE, DOGTL_SIZE
and DOGTL_HOME are used where an option isn't given, and DOGTL_DOGS_URL (an address, a
zip or a folder) where the dogs come from elsewhere."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if it's done, 1 if it couldn't be, 128 + n at signal n.

    Wrong usage exits with 2.
    """
    terminal.prepare()
    before = signal.signal(signal.SIGTERM, terminal.stop)
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # or Python would, where nobody can catch the error
    except DogtlError as error:
        log.error("%s", error)
    except BrokenPipeError:  # dogtl run | head -1: nobody wants the rest
        terminal.drop_output()
        return 141  # as for other programs: 128 + SIGPIPE
    except OSError as error:
        log.error("%s: %s", error.filename or "the output", error_text(error))
        if not error.filename:
            terminal.drop_output()
    except KeyboardInterrupt as error:
        log.error("stopped; the same command continues from here")
        return 128 + (error.args or [signal.SIGINT])[0]
    finally:
        signal.signal(signal.SIGTERM, before)
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # argparse itself would show dogtl's usage, not this command's
        words = terminal.printable(" ".join(unknown))
        options.parser.error(f"unrecognized arguments: {words}")
    log.setLevel(logging.WARNING if options.quiet else logging.INFO)
    if not options.model:  # which needs no home
        options.home = store.find_home(options.home)
    if options.command == "predict":
        return _predict(options)
    if options.command == "clean":
        return _clean(options)
    with cluster.connect(options.cluster) as client:
        for command, lines in _steps(options, client):
            is_result = command in (options.command, "evaluate")
            if is_result or not (options.json or options.quiet):
                terminal.show(*lines)
            if command == options.command:
                break
    return 0


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it's empty: give a path")
    return Path(text)


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
            add("--csv", type=_path, metavar="FILE", help="write a row a photo there")
        if command == "fetch":
            add("--splits", type=_path, metavar="FILE", help="list the photos in a CSV")
        if command == "clean":
            add("--dry-run", action="store_true", help="say what would go, no more")
        if command == "export":
            add("folder", metavar="FOLDER", help="the folder to write")
            add("--tflite", action="store_true", help="write model.tflite too")
        if command in ("evaluate", "predict"):
            add("--json", action="store_true", help="print JSON")
        add("--photos", help="kennel, dogs, a folder or a CSV (kennel)")
        add("--module", help="a known word, a folder, a .keras file or a handle (toy)")
        add("--size", type=int, help="the squares' side in pixels")
        add("--home", type=_path, help="where generated files go (data/)")
        if command not in ("fetch", "predict", "clean"):
            add("--cluster", metavar="ADDRESS", help="Dask scheduler: tcp://host:8786")
        add("--strict", action="store_true", help="stop if a photo can't be used")
        quiet = "print the result alone, with warnings and errors"
        add("-q", "--quiet", action="store_true", help=quiet)
    return parser


def _steps(options: argparse.Namespace, client) -> Iterator[tuple[str, list[str]]]:
    """Do one step after another; yield its command, and the lines to print."""
    home = options.home
    if options.command == "export":
        exports.check_folder(options.folder)  # rather than after hours
    photos = None
    if choose_photos(options.photos) not in ("kennel", "dogs"):
        photos = dogtl.load_photos(options.photos, home)  # typos show early
    module = dogtl.load_module(options.module, options.size, home)
    photos = photos or dogtl.load_photos(options.photos, home)
    said = [f"{photos}", f"  in {photos.folder}", f"{module}", f"  in {module.folder}"]
    if options.splits:
        dogtl.photos.write_splits(photos, options.splits)
        said.append(f"splits in {options.splits}")
    yield "fetch", said
    squares = dogtl.square(photos, module.size, home, client)
    skipped = [item for some in squares.skipped.values() for item in some.items()]
    if options.strict and skipped:
        path, reason = skipped[0]
        raise DogtlError(f"{path} can't be used: {reason}; take it away or mend it")
    yield "square", [str(squares), f"  in {squares.files['train'][0].parents[1]}"]
    bottlenecks = dogtl.extract(squares, module, home, client)
    yield "extract", [f"{split}: {made}" for split, made in bottlenecks.items()]
    layer = dogtl.train(bottlenecks, home)
    linear.save_layer(layer, _layer_file(options))
    yield "train", [str(layer)]
    evaluation = dogtl.evaluate(layer, bottlenecks["test"])
    facts = json.dumps(report.summary(evaluation, squares, module), indent=2)
    mismatch = find_mismatch(squares, module)
    said = [*filter(None, [mismatch]), *report.lines(evaluation)]
    yield "evaluate", facts.split("\n") if options.json else said
    if options.command == "export":
        made_of = (evaluation, options.tflite, Path(squares.name).name)
        folder = dogtl.export(layer, module, options.folder, *made_of)
        yield "export", [f"model in {folder}"]
    figures = home / "figures" / _layer_file(options).stem
    yield "run", [f"figures in {report.draw(squares, layer, evaluation, figures)}"]


def _clean(options: argparse.Namespace) -> int:
    """Delete what no trained choice needs; say how much that was."""
    _read_layer(options)  # or a choice that was never trained would take all away
    photos = dogtl.load_photos(options.photos, options.home)
    files, n_bytes = cleanup.find_unneeded(photos, options.home), 0
    for file in files:
        with suppress(FileNotFoundError):  # another process may be cleaning, too
            n_bytes += file.stat().st_size
            if not options.dry_run:
                file.unlink()
    for folder in {file.parent for file in files if not options.dry_run}:
        with suppress(OSError):  # other files are left in it
            os.removedirs(folder)
    did = "would delete" if options.dry_run else "deleted"
    what = f"{len(files):,} {plural(len(files), 'file')}, {n_bytes / 1e6:,.1f} MB"
    kinds = Counter(file.relative_to(options.home).parts[0] for file in files)
    each = [f"  {n:,} in {options.home / kind}" for kind, n in kinds.items()]
    terminal.show(f"{did} {what}", *each)
    return 0


def _predict(options: argparse.Namespace) -> int:
    """Predict one photo after another; return 1 if one couldn't be read."""
    if options.model:  # it's module and layer
        layer = module = dogtl.load_model(options.model)
    else:
        layer = _read_layer(options)
        log.info("layer %s", _layer_file(options))
        module = dogtl.load_module(options.module, options.size, options.home)
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
            best = result["predictions"]
            rows = [f"  {one['probability']:6.1%}  {one['breed']}" for one in best]
            terminal.show(result["photo"], *rows)
    if options.json:
        print(json.dumps(entries, indent=2))
    return code


def _write_rows(results: Iterator[dict], file: Path, top: int) -> Iterator[dict]:
    """Yield each result; write a CSV file with a row for each when all are there."""
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise DogtlError(f"{file} can't be written: choose a file that can")  # early
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    names = [name + rank for rank in ranks for name in ("breed", "probability")]
    rows = [["photo", *names, "error"]]
    for result in results:
        best = result.get("predictions", [])
        cells = [cell for one in best for cell in one.values()] or [""] * len(names)
        rows.append([result["photo"], *cells, result.get("error", "")])
        yield result
    data, n_photos = store.to_csv(rows), len(rows) - 1
    if file.exists() and not file.is_file():
        file.write_bytes(data)  # /dev/stdout and the like
    else:
        store.atomic_write(Path(os.path.realpath(file)), data)
    log.info("%d %s in %s", n_photos, plural(n_photos, "photo"), file)


def _read_layer(options: argparse.Namespace) -> dogtl.LinearLayer:
    """Return the layer that train left for the chosen photos and module."""
    file = _layer_file(options)
    layer = linear.read_layer(file)
    if layer is None:
        there = ", ".join(sorted(other.stem for other in file.parent.glob("*.npz")))
        raise DogtlError(
            f"there is no trained layer {file.stem}: run dogtl train with the same"
            f" options first (there are: {there or 'none'})"
        )
    return layer


def _layer_file(options: argparse.Namespace) -> Path:
    """Return where the layer lies that predict reads."""
    name = store.choice_name(options.photos, options.module, options.size)
    return options.home / "layers" / f"{name}.npz"
