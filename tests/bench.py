"""Time each step beside another way to do it, and print one table (no test).

    make bench                       # first installs scikit-learn and scikit-image
    make bench-readme                # writes the table into README.md, too
    python tests/bench.py squares    # some rows only
    python tests/bench.py InceptionV3 InceptionResNetV2

The ways of a row take turns in one run, so their ratio holds on a busy machine, too.
The last command times networks of full size from keras.applications. Their weights are
random, but time and memory don't depend on weights.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from PIL import Image

import dogtl
from dogtl.bottlenecks import BATCH
from dogtl.toy.kennel import draw_one, photo_list

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real" / "modules" / "mobilenet_v2_100_224"
MARKERS = "<!-- bench -->\n", "<!-- end of bench -->\n"
HEAD = "step", "dogtl", "compared with", "", "ratio", "goal"
PACKAGES = ["tensorflow", "keras", "pillow", "numpy", "scipy"]
PACKAGES += ["scikit-image", "scikit-learn"]
PHOTO, SMALL = (400, 533), (64, 64)  # pixels
SIZE = 224  # pixels: MobileNet's squares
L2_PENALTIES = np.logspace(-6, -2, 5)
NUMPY = ["-c", "import numpy"]
NO_TENSORFLOW = """
import sys
from dogtl.cli import main
sys.exit(main(sys.argv[1:]) or "tensorflow" in sys.modules)
"""
WATCH = """
import resource, subprocess, sys, time
begin = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(time.perf_counter() - begin, peak / 1024)
"""
EXPORT = """
import sys
import dogtl
tf = dogtl.import_tensorflow()
options = {"weights": None, "include_top": False, "pooling": "avg"}
network = getattr(tf.keras.applications, sys.argv[1])(**options)
module = tf.Module()
module.network = network
shape = tf.TensorSpec([None, None, None, 3])
module.__call__ = tf.function(lambda x: network(2 * x - 1, training=False), [shape])
tf.saved_model.save(module, sys.argv[2])
"""

Row = tuple[str, str, str, str, str, str]  # as in HEAD
Way = Callable[[], tuple[float, object]]  # returns its seconds and its result


# How things are measured.


def timed(way: Callable, *arguments: object) -> tuple[float, object]:
    """Call a function; return its seconds and its result."""
    begin = time.perf_counter()
    result = way(*arguments)
    return time.perf_counter() - begin, result


def watch(*words: object) -> tuple[float, float]:
    """Run Python in a process of its own; return its seconds and its peak in MB.

    A small process starts it: Linux counts the starter's memory as the child's, too.
    """
    line = [sys.executable, "-c", WATCH, sys.executable, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def in_turn(times: int, *ways: Way) -> list[tuple[float, object]]:
    """Call all ways in turn, several times; return median seconds and last results."""
    rounds = [[way() for way in ways] for _ in range(times)]
    seconds = np.median([[spent for spent, _ in each] for each in rounds], axis=0)
    return list(zip(seconds, [result for _, result in rounds[-1]], strict=True))


# What is measured: photos and bottlenecks that nobody has to fetch.


def draw_photos(folder: Path, number: int, size: tuple[int, int], breeds: int) -> Path:
    """Draw photos from the kennel's, noisy so that their JPEGs are as big as real ones.

    Of ten photos of a breed eight are to train with, and one for each other split.
    """
    kennel = [draw_one(photo.path)[0].convert("RGB") for photo in photo_list()[::70]]
    kennel = [np.asarray(image.resize(size), np.float32) for image in kennel]
    splits = ["train"] * 8 + ["valid", "test"]

    def draw(i: int) -> None:
        noise = np.random.default_rng(i).standard_normal(kennel[0].shape, np.float32)
        pixels = kennel[i % len(kennel)] + 12 * noise
        split, breed = splits[i // breeds % 10], f"{i % breeds:03}.Breed"
        file = folder / split / breed / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)

    with ThreadPool() as pool:
        pool.map(draw, range(number))
    return folder


def make_bottlenecks(n: int, width: int, breeds: int, noise: float) -> dict:
    """Make up bottlenecks: sparse, skewed, and some photos give larger ones."""
    rng = np.random.default_rng(0)
    means = rng.gamma(0.3, 1, (breeds, width)).astype(np.float32)
    names, bottlenecks = [f"{i:03}" for i in range(breeds)], {}
    for split, m in {"train": n, "valid": n // 8, "test": n // 8}.items():
        labels = rng.integers(0, breeds, m)
        heavy = rng.gamma(1, 1, (m, width)) * rng.standard_normal((m, width))
        gains = np.exp(0.5 * rng.standard_normal((m, 1)))
        features = gains * np.maximum(means[labels] + noise * heavy, 0)
        facts = (labels, names, [], {}, {"name": "made up", "fingerprint": ""})
        bottlenecks[split] = dogtl.Bottlenecks(features.astype(np.float32), *facts)
    return bottlenecks


# The other ways.


def scikit_image(files: list[Path]) -> None:
    from skimage.io import imread
    from skimage.transform import resize

    for file in files:
        image = imread(file)
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        centre = image[top : top + side, left : left + side]
        resize(centre, (SIZE, SIZE), anti_aliasing=True)


def decode(files: list[Path]) -> None:
    def load(file: Path) -> None:
        with Image.open(file) as image:
            image.load()

    with ThreadPool() as pool:
        pool.map(load, files)


def one_by_one(files: list[Path], module: dogtl.Module) -> None:
    for file in files:
        module(dogtl.read_square(file)[None].astype(np.float32) / 255)


def batches(images: np.ndarray, module: dogtl.Module) -> None:
    for start in range(0, len(images), BATCH):
        module(images[start : start + BATCH])


def keras_epoch(bottlenecks: dict) -> float:
    """Train for one epoch as the original project did; return the test accuracy."""
    dogtl.import_tensorflow()
    import keras

    keras.utils.set_random_seed(0)
    train, test = bottlenecks["train"], bottlenecks["test"]
    dense = keras.layers.Dense(len(train.breeds), activation="softmax")
    model = keras.Sequential([dense])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train.features, train.labels, batch_size=16, epochs=1, verbose=0)
    return model.evaluate(test.features, test.labels, verbose=0)[1]


def scikit_learn(bottlenecks: dict) -> float:
    """Try five penalties; return the test accuracy of the one that is best on valid."""
    from sklearn.linear_model import LogisticRegression

    train, valid, test = bottlenecks.values()
    scale = np.sqrt(np.mean(train.features**2))
    models = []
    for l2 in L2_PENALTIES:  # beside the mean loss, as dogtl counts it
        model = LogisticRegression(C=1 / (2 * len(train.labels) * l2), max_iter=200)
        with warnings.catch_warnings(action="ignore"):  # a weak one may need more
            models.append(model.fit(train.features / scale, train.labels))
    best = max(models, key=lambda m: m.score(valid.features / scale, valid.labels))
    return best.score(test.features / scale, test.labels)


# The rows of the table.


def squares(scratch: Path) -> Iterator[Row]:
    photos = dogtl.load_photos(draw_photos(scratch / "photos", 320, PHOTO, 10))
    files = sum(photos.paths.values(), [])
    homes = (scratch / f"home-{i}" for i in range(9))
    ours, theirs, limit = (
        len(files) / seconds
        for seconds, _ in in_turn(
            5,
            lambda: timed(dogtl.square, photos, SIZE, next(homes)),
            partial(timed, scikit_image, files),
            partial(timed, decode, files),
        )
    )
    step = f"squares: {len(files)} photos of 400 x 533 to files of {SIZE} x {SIZE}"
    mine, goal = f"{ours:,.0f} a second", "at least 9"
    others = f"{theirs:,.0f} a second", f"{limit:,.0f} a second"
    way = "scikit-image: read, crop, resize, one process"
    yield step, mine, way, others[0], times(ours, theirs), goal
    way = "Pillow only decoding, all cores"
    yield step, mine, way, others[1], percent(ours, limit), ""


def bottlenecks(scratch: Path) -> Iterator[Row]:
    module = dogtl.load_module(REAL if REAL.exists() else "toy", home=scratch)
    photos = dogtl.load_photos(draw_photos(scratch / "photos", 320, PHOTO, 10))
    squares = dogtl.square(photos, module.size, scratch)
    files = sum(squares.files.values(), [])
    images = np.stack([dogtl.read_square(file) for file in files]) / np.float32(255)
    homes = (scratch / f"home-{i}" for i in range(9))
    batches(images[:BATCH], module)  # the first call takes longer
    one_by_one(files[:1], module)
    ours, theirs, limit = (
        len(files) / seconds
        for seconds, _ in in_turn(
            5,
            lambda: timed(dogtl.extract, squares, module, next(homes)),
            partial(timed, one_by_one, files, module),
            partial(timed, batches, images, module),
        )
    )
    step = f"bottlenecks: {len(files)} squares, {module.label}"
    mine = f"{ours:,.0f} a second"
    others = f"{theirs:,.0f} a second", f"{limit:,.0f} a second"
    way, goal = "one image a call", "at least 1.5"
    yield step, mine, way, others[0], times(ours, theirs), goal
    way, goal = "the module alone, on equal batches in memory", "at least 90 %"
    yield step, mine, way, others[1], percent(ours, limit), goal


def layer(scratch: Path) -> Iterator[Row]:
    for n, width, breeds, noise, rounds in (
        (6982, 1280, 101, 2.4, 3),
        (6680, 2048, 133, 3.2, 1),
    ):
        made = make_bottlenecks(n, width, breeds, noise)
        homes = (scratch / f"home-{width}-{i}" for i in range(9))

        def train(made=made, homes=homes) -> float:
            layer = dogtl.train(made, next(homes))
            return dogtl.evaluate(layer, made["test"]).accuracy

        ways = (partial(timed, way, made) for way in (keras_epoch, scikit_learn))
        results = in_turn(rounds, partial(timed, train), *ways)
        mine, epoch, sweep = (
            f"{s:.1f} s, {100 * right:.1f} % right" for s, right in results
        )
        ours, theirs, limit = (seconds for seconds, _ in results)
        step = f"the layer: {n:,} x {width:,} bottlenecks, {breeds} breeds"
        way = "Keras `fit`, one epoch, batches of 16"
        yield step, mine, way, epoch, f"{ours / theirs:.1f} times its time", ""
        way, goal = "scikit-learn, five penalties", "at most 1"
        yield step, mine, way, sweep, f"{ours / limit:.2f} times its time", goal


def nothing(scratch: Path) -> Iterator[Row]:
    photos = draw_photos(scratch / "photos", 8351, SMALL, 133)
    words = ["run", "--photos", photos, "--home", scratch]
    first, _ = watch("-m", "dogtl", *words)
    ((ours, _),) = in_turn(5, partial(watch, "-c", NO_TENSORFLOW, *words))
    step, way = "`dogtl run` again: 8,351 photos, nothing to do", "the first run"
    yield step, f"{ours:.2f} s", way, f"{first:.0f} s", times(first, ours), "under 1 s"


def start(scratch: Path) -> Iterator[Row]:
    photos = draw_photos(scratch / "photos", 320, SMALL, 10)
    words = ["square", "--photos", photos, "--home", scratch]
    watch("-m", "dogtl", *words)
    again = partial(watch, "-c", NO_TENSORFLOW, *words)
    importing = partial(watch, "-c", "import dogtl")
    results = in_turn(7, again, importing, partial(watch, *NUMPY))
    (seconds, _), (imported, _), (base, _) = results
    peak, _, least = (megabytes for _, megabytes in results)
    way, theirs = "Python and NumPy alone", f"{base:.2f} s, {least:.0f} MB"
    step, mine = "`dogtl square` again: 320 photos", f"{seconds:.2f} s, {peak:.0f} MB"
    ratio = f"{seconds / base:.1f} times the time, {peak / least:.1f} the memory"
    yield step, mine, way, theirs, ratio, "under 0.5 s, 200 MB"
    step, mine = "`import dogtl`", f"{imported:.2f} s"
    ratio = f"{imported / base:.1f} times the time"
    yield step, mine, way, f"{base:.2f} s", ratio, "under 0.2 s"


def peaks_of(program: list[str], scratch: Path) -> dict[tuple[str, int], float]:
    """Return how many MB two steps take at most, for few photos and for many."""
    peaks = {}
    for number in (500, 20_000):
        photos = draw_photos(scratch / f"{number}", number, SMALL, 10)
        for step in ("square", "extract"):
            words = [*program, step, "--home", scratch, "--photos", photos]
            peaks[step, number] = watch(*words)[1]
    return peaks


def memory(scratch: Path) -> Iterator[Row]:
    few = draw_photos(scratch / "few", 100, SMALL, 10)
    words = ["square", "--home", scratch, "--photos", few]
    watch("-m", "dogtl", *words)  # meets the module
    peaks = peaks_of(["-m", "dogtl"], scratch)
    for step in ("square", "extract"):
        few, many = peaks[step, 500], peaks[step, 20_000]
        name = f"peak memory of `dogtl {step}`, 20,000 photos"
        more = f"{(many - few) / 19.5:.1f} kB a photo more"
        ratio = f"{many / few:.2f} times its memory, {more}"
        yield name, f"{many:.0f} MB", "500 photos", f"{few:.0f} MB", ratio, "flat"


def network(scratch: Path, name: str) -> Iterator[Row]:
    """A network of keras.applications; the start of the process counts."""
    photos, module = draw_photos(scratch / "photos", 320, PHOTO, 10), scratch / "module"
    watch("-c", EXPORT, name, module)
    words = ["--photos", photos, "--home", scratch, "--module", module, "--size", 299]
    watch("-m", "dogtl", "square", *words)
    seconds, megabytes = watch("-m", "dogtl", "extract", *words)
    result = f"{seconds / 320:.3f} s a photo, {megabytes:,.0f} MB"
    yield f"{name}: 320 squares of 299 x 299, random weights", result, "", "", "", ""


ROWS = {
    row.__name__: row for row in (squares, bottlenecks, layer, nothing, start, memory)
}


# The table.


def times(larger: float, smaller: float) -> str:
    return f"{larger / smaller:.{0 if larger > 20 * smaller else 1}f} times as fast"


def percent(ours: float, limit: float) -> str:
    return f"{100 * ours / limit:.0f} % of its speed"


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    python = platform.python_version()
    return f"Measured on {os.cpu_count()} cores: Python {python}, {packages}."


def line(row: Row) -> str:
    return f"| {' | '.join(row)} |"


def measure(names: list[str]) -> str:
    """Measure rows and print them as they come; return the table in Markdown."""
    lines = []

    def add(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    add(f"{machine()}\n\n{line(HEAD)}\n{line(['---'] * len(HEAD))}")
    for name in names or ROWS:
        row = ROWS.get(name) or partial(network, name=name)
        with tempfile.TemporaryDirectory() as scratch:
            for cells in row(Path(scratch)):
                add(line(cells))
    return "\n".join(lines) + "\n"


def rewrite(text: str, table: str) -> str:
    """Return a text with the table between the two markers."""
    begin, end = map(re.escape, MARKERS)
    both = re.compile(f"(?<={begin}).*(?={end})", re.DOTALL)
    return both.sub(lambda _: f"\n{table}\n", text, count=1)


def main(*names: str) -> None:
    rest = [name for name in names if name != "--readme"]
    table = measure(rest)
    if "--readme" in names:
        readme = ROOT / "README.md"
        readme.write_text(rewrite(readme.read_text("utf-8"), table), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
