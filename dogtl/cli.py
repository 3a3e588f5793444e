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
from typing import NoReturn

import dogtl  # the public names; the others come from their own files
from dogtl import cleanup, cluster, exports, linear, report, store, terminal
from dogtl.base import DogtlError, choose_photos, error_text, log, plural
from dogtl.bottlenecks import find_mismatch
from dogtl.photos import write_splits
from dogtl.prediction import predict_each

COMMANDS = {
    "fetch": "Get photos and module in advance, for machines without network.",
    "square": "Cut the photos to squares and downsample them.",
    "extract": "Extract the squares' bottlenecks with the module.",
    "train": "Train the linear layer on the bottlenecks.",
    "evaluate": "Evaluate the linear layer on the held-out test photos.",
    "run": "Do everything: squares, bottlenecks, linear layer, evaluation and figures.",
    "export": "Write module and linear layer as one model that TensorFlow loads alone.",
    "predict": "Predict the breeds of photos, with the layer that train or run saved.",
    "clean": "Delete results that can be made again: squares of photos that aren't"
    " chosen, bottlenecks and figures that belong to no trained layer, and what older"
    " versions left. Photos, modules and layers stay.",
}
EPILOG = """Each step first does the earlier ones that are missing; predict and clean
need a layer that train or run saved. Photos are a known word or a path (with a /, or to
a CSV file), the module may be a URL too. DOGTL_PHOTOS, DOGTL_MODULE, DOGTL_SIZE and
DOGTL_HOME are used where an option isn't given, and DOGTL_DOGS_URL (a URL, a zip or a
folder) where the dogs come from elsewhere."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    It's 0 if all went well, 1 after an error, and 128 + n if signal n stopped it. Wrong
    usage exits with 2.
    """
    terminal.prepare()
    handler_before = signal.signal(signal.SIGTERM, terminal.stop)
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # here we can catch an error, at Python's exit we can't
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
        # terminal.stop passes the signal's number; Python passes none at Control-C.
        number = error.args[0] if error.args else signal.SIGINT
        return 128 + number
    finally:
        signal.signal(signal.SIGTERM, handler_before)
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # argparse itself would show dogtl's usage, not this command's
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    log.setLevel(logging.WARNING if options.quiet else logging.INFO)
    if not options.model:  # an exported model needs no home
        options.home = store.find_home(options.home)
    if options.command == "predict":
        return _predict(options)
    if options.command == "clean":
        return _clean(options)
    with cluster.connect(options.cluster) as client:
        for command, lines in _steps(options, client):
            # run and export go on after the accuracy, but it's part of their result
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


class _Parser(argparse.ArgumentParser):
    """A parser whose errors quote what was typed with control characters escaped."""

    def error(self, message: str) -> NoReturn:
        super().error(terminal.printable(message))


def _parser() -> argparse.ArgumentParser:
    about = "Name the breed in a photo by transfer learning."
    parser = _Parser(prog="dogtl", description=about, epilog=EPILOG)
    # Only some commands have these options, but all commands' code asks for them.
    parser.set_defaults(json=False, cluster=None, splits=None, model=None)
    parser.add_argument("--version", action="version", version=dogtl.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, text in COMMANDS.items():
        texts = {"help": text, "description": text, "epilog": EPILOG}
        subparser = commands.add_parser(command, **texts)
        subparser.set_defaults(parser=subparser)
        _add_own_options(subparser, command)
        _add_shared_options(subparser, command)
    return parser


def _add_own_options(parser: argparse.ArgumentParser, command: str) -> None:
    add = parser.add_argument
    if command == "fetch":
        add("--splits", type=_path, metavar="FILE", help="list the photos in a CSV")
    elif command == "evaluate":
        add("--json", action="store_true", help="print JSON")
    elif command == "export":
        add("folder", type=_path, metavar="FOLDER", help="the folder to write")
        add("--tflite", action="store_true", help="write model.tflite too")
    elif command == "predict":
        add("photo", nargs="+", metavar="PHOTO", help="a file, or a folder of them")
        add("--model", metavar="FOLDER", help="use what dogtl export wrote there")
        add("--top", type=int, default=5, metavar="N", help="breeds to name (5)")
        add("--csv", type=_path, metavar="FILE", help="write a CSV row per photo")
        add("--json", action="store_true", help="print JSON")
    elif command == "clean":
        dry_run = "only say how much would be deleted"
        add("--dry-run", action="store_true", help=dry_run)


def _add_shared_options(parser: argparse.ArgumentParser, command: str) -> None:
    add = parser.add_argument
    add("--photos", help="kennel, dogs, a folder or a CSV (kennel)")
    add("--module", help="a known word, a folder, a .keras file or a handle (toy)")
    add("--size", type=int, help="the squares' side in pixels")
    add("--home", type=_path, help="where generated files go (data/)")
    if command not in ("fetch", "predict", "clean"):
        add("--cluster", metavar="ADDRESS", help="Dask scheduler: tcp://host:8786")
    add("--strict", action="store_true", help="stop if a photo can't be used")
    quiet = "print only the result, warnings and errors"
    add("-q", "--quiet", action="store_true", help=quiet)


def _steps(options: argparse.Namespace, client) -> Iterator[tuple[str, list[str]]]:
    """Do one step after another; yield its command, and the lines to print."""
    home = options.home
    if options.command == "export":
        exports.check_folder(options.folder)  # fail now, not after hours of training
    photos, module = _load_inputs(options)
    lines = [f"{photos}", f"  in {photos.folder}", f"{module}", f"  in {module.folder}"]
    if options.splits:
        write_splits(photos, options.splits)
        lines.append(f"splits in {options.splits}")
    yield "fetch", lines
    squares = dogtl.square(photos, module.size, home, client)
    if options.strict:
        _check_none_skipped(squares)
    yield "square", [str(squares), f"  in {home / 'squares' / str(module.size)}"]
    bottlenecks = dogtl.extract(squares, module, home, client)
    yield "extract", [f"{split}: {part}" for split, part in bottlenecks.items()]
    layer = dogtl.train(bottlenecks, home)
    # train keeps each layer in linear/, named by a hash of the bottlenecks it learned
    # from. predict has no bottlenecks: layers/ has a copy, named by photos and module.
    linear.save_layer(layer, _layer_file(options))
    yield "train", [str(layer)]
    evaluation = dogtl.evaluate(layer, bottlenecks["test"])
    if options.json:
        summary = report.summary(evaluation, squares, module)
        yield "evaluate", json.dumps(summary, indent=2).split("\n")
    else:
        mismatch = find_mismatch(squares, module)
        yield "evaluate", [*filter(None, [mismatch]), *report.lines(evaluation)]
    if options.command == "export":
        extras = {"tflite": options.tflite, "photos": Path(squares.name).name}
        folder = dogtl.export(layer, module, options.folder, evaluation, **extras)
        yield "export", [f"model in {folder}"]
    name = _layer_file(options).stem
    folder = report.draw(squares, layer, evaluation, home / "figures", name)
    yield "run", [f"figures in {folder}"]


def _load_inputs(options: argparse.Namespace) -> tuple[dogtl.Photos, dogtl.Module]:
    """Load photos and module; your own photos come first, so that typos show early."""
    photos = None
    if choose_photos(options.photos) not in ("kennel", "dogs"):
        photos = dogtl.load_photos(options.photos, options.home)
    module = dogtl.load_module(options.module, options.size, options.home)
    return photos or dogtl.load_photos(options.photos, options.home), module


def _check_none_skipped(squares: dogtl.Squares) -> None:
    for skipped in squares.skipped.values():
        for path, reason in skipped.items():
            raise DogtlError(f"{path} can't be used: {reason}; remove or repair it")


def _clean(options: argparse.Namespace) -> int:
    """Delete results that can be made again, as `COMMANDS` says; print how many."""
    # Stop if this choice was never trained: after a typo, all squares would be deleted.
    _read_layer(options)
    photos = dogtl.load_photos(options.photos, options.home)
    files = cleanup.find_unneeded(photos, options.home)
    n_bytes = 0
    for file in files:
        with suppress(FileNotFoundError):  # another process may be cleaning, too
            n_bytes += file.stat().st_size
            if not options.dry_run:
                file.unlink()
    if not options.dry_run:
        for folder in {file.parent for file in files}:
            with suppress(OSError):  # other files are left in it
                os.removedirs(folder)
    action = "would delete" if options.dry_run else "deleted"
    total = f"{len(files):,} {plural(len(files), 'file')}, {n_bytes / 1e6:,.1f} MB"
    counts = Counter(file.relative_to(options.home).parts[0] for file in files)
    lines = [f"  {n:,} in {options.home / kind}" for kind, n in counts.items()]
    terminal.show(f"{action} {total}", *lines)
    return 0


def _predict(options: argparse.Namespace) -> int:
    """Predict one photo after another; return 1 if one couldn't be read."""
    if options.csv:
        _check_writable(options.csv)
    if options.model:  # an exported model is layer and module in one
        layer = module = dogtl.load_model(options.model)
    else:
        layer = _read_layer(options)
        log.info("layer %s", _layer_file(options))
        module = dogtl.load_module(options.module, options.size, options.home)
    results, code = [], 0
    for result in predict_each(layer, module, options.photo, options.top):
        results.append(result)
        if "error" in result:
            log.error("%s: %s", result["photo"], result["error"])
            code = 1
            if options.strict:
                break
        elif not (options.json or options.csv):
            best = result["predictions"]
            lines = [f"  {one['probability']:6.1%}  {one['breed']}" for one in best]
            terminal.show(result["photo"], *lines)
    if options.csv:
        _write_csv(results, options.csv, min(options.top, len(layer.breeds)))
    if options.json:
        print(json.dumps(results, indent=2))
    return code


def _check_writable(file: Path) -> None:
    """Raise DogtlError if a file can't be written: now, not after all predictions."""
    is_special = file.exists() and not file.is_file()  # /dev/stdout and the like
    place = file if is_special else Path(os.path.realpath(file)).parent
    if file.is_dir() or not os.access(place, os.W_OK):
        raise DogtlError(f"{file} can't be written: choose another file")


def _write_csv(results: list[dict], file: Path, n_breeds: int) -> None:
    """Write a CSV row for each result, with columns for the most probable breeds."""
    ranks = ["", *(f"_{rank}" for rank in range(2, n_breeds + 1))]
    names = [name + rank for rank in ranks for name in ("breed", "probability")]
    rows = [["photo", *names, "error"]]
    for result in results:
        best = result.get("predictions", [])
        cells = [cell for one in best for cell in (one["breed"], one["probability"])]
        cells = cells or [""] * len(names)
        rows.append([result["photo"], *cells, result.get("error", "")])
    data = store.to_csv(rows)
    if file.exists() and not file.is_file():  # /dev/stdout and the like
        try:
            file.write_bytes(data)
        except OSError as error:
            error.filename = error.filename or str(file)  # none while writing
            raise
    else:
        store.atomic_write(Path(os.path.realpath(file)), data)
    log.info("%d %s in %s", len(results), plural(len(results), "photo"), file)


def _read_layer(options: argparse.Namespace) -> dogtl.LinearLayer:
    """Return the layer that train left for the chosen photos and module."""
    file = _layer_file(options)
    layer = linear.read_layer(file)
    if layer is None:
        others = ", ".join(sorted(other.stem for other in file.parent.glob("*.npz")))
        raise DogtlError(
            f"there is no trained layer {file.stem}: run dogtl train with the same"
            f" options first (there are: {others or 'none'})"
        )
    return layer


def _layer_file(options: argparse.Namespace) -> Path:
    """Return where train keeps this choice's layer for predict."""
    name = store.choice_name(options.photos, options.module, options.size)
    return options.home / "layers" / f"{name}.npz"
