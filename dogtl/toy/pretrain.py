"""Make the toy module: a small network that learns to tell imaginary species apart.

It draws photos of species that no breed is near (see `minimum_distance`), trains the
network to name the species and to predict their build, and exports it without these
two heads. It trains on any Keras backend (KERAS_BACKEND says which); only TensorFlow
writes a SavedModel.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import combinations, count, product
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np

from dogtl import frameworks, toy
from dogtl.base import progress
from dogtl.frameworks import default_keras_config, export_keras, import_tensorflow
from dogtl.squares import make_square
from dogtl.store import code_version
from dogtl.toy.brush import Dog, as_vector, draw_photo, sample_dog, sample_size, vary
from dogtl.toy.kennel import BREEDS, LOOK_ALIKES

SIZE = 112  # side of the squares, in pixels
NUMBERS = len(as_vector(Dog()))
LIBRARIES = ("keras", "numpy", "pillow")
CODE = code_version(__file__, frameworks.__file__, "tensorflow", "keras")
Data = tuple[np.ndarray, np.ndarray, np.ndarray]  # squares, dogs' numbers, species


@dataclass(frozen=True)
class Plan:
    """What a network is trained on, and how."""

    seed: int = 0
    species: int = 2400
    photos: int = 16  # of each species: many species teach more than many photos
    epochs: int = 12
    training_fraction: float = 1.0  # with 0.05 the network stays young
    width: int = 16  # with 8 it has a quarter of the parameters
    batch: int = 32
    learning_rate: float = 1.5e-3  # at its highest: it rises, then falls to 0


def apart(one: Iterable[Dog], other: Iterable[Dog]) -> float:
    """The distance between the nearest two dogs of two kinds, in scaled numbers."""
    pairs = product(map(as_vector, one), map(as_vector, other))
    return min(float(np.linalg.norm(a - b)) for a, b in pairs)


def minimum_distance() -> float:
    """The distance between the nearest two breeds that are no declared look-alikes.

    Every species is farther than this from every coat of every breed.
    """
    pairs = [pair for pair in combinations(BREEDS, 2) if pair not in LOOK_ALIKES]
    return min(apart(BREEDS[a], BREEDS[b]) for a, b in pairs)


def species(seed: int, number: int) -> list[Dog]:
    """Imaginary species; those too near to any coat of any breed are thrown away."""
    rng, least, found = np.random.default_rng(seed), minimum_distance(), []
    breeds = np.array([as_vector(dog) for coats in BREEDS.values() for dog in coats])
    while len(found) < number:
        dog = sample_dog(rng)
        if np.linalg.norm(breeds - as_vector(dog), axis=1).min() > least:
            found.append(dog)
    return found


def draw_square(job: tuple[Dog, tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """One dog of a species as the network will see it, and its numbers.

    Takes a species and a random stream; gives uint8 [SIZE, SIZE, 3], float32 [NUMBERS].
    The photo is but twice as large as its square: more takes long and adds nothing.
    """
    rng = np.random.default_rng(job[1])
    dog, size = vary(job[0], rng), np.array(sample_size(rng))
    width, height = np.rint(size * 2 * SIZE / size.min()).astype(int).tolist()
    photo, _ = draw_photo(dog, rng, size=(width, height))
    return np.asarray(make_square(photo, SIZE)), as_vector(dog).astype(np.float32)


def draw_squares(plan: Plan, workers: int | None = None) -> Data:
    """All squares of a plan, drawn by as many processes as there are cores.

    Gives squares, uint8 [n, SIZE, SIZE, 3], the dogs' numbers, float32 [n, NUMBERS],
    and their species, int64 [n].
    """
    dogs, total = species(plan.seed, plan.species), plan.species * plan.photos
    labels = np.arange(total) % plan.species
    jobs = ((dogs[k], (plan.seed, k, i)) for i, k in enumerate(labels.tolist()))
    squares = np.empty((total, SIZE, SIZE, 3), np.uint8)
    numbers = np.empty((total, NUMBERS), np.float32)
    with get_context("spawn").Pool(workers) as pool:
        drawn = pool.imap(draw_square, jobs, chunksize=16)
        for i, pair in enumerate(progress(drawn, total, "squares")):
            squares[i], numbers[i] = pair
    return squares, numbers, labels


def backend() -> str:
    """Import Keras, TensorFlow quietly if it needs it; gives its backend's name."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import_tensorflow()
    return import_module("keras").backend.backend()


def network(width: int = Plan.width, seed: int = 0):
    """A small residual network with random weights, a Keras model.

    Takes images, float32 [batch, SIZE, SIZE, 3] in [0, 1]; gives features, float32
    [batch, 16 * width], never negative: a rectifier and averaging come last. Before,
    each stage halves the side and adds a residual block (He et al., arXiv:1512.03385).
    """
    backend()
    from keras import Input, Model, initializers, layers

    seeds = count(1000 * seed)

    def convolve(x, filters: float, side: int = 3, stride: int = 1):
        start = initializers.HeNormal(next(seeds))
        options = {"padding": "same", "use_bias": False, "kernel_initializer": start}
        x = layers.Conv2D(int(filters), side, stride, **options)(x)
        return layers.BatchNormalization(momentum=0.97)(x)

    images = Input((SIZE, SIZE, 3))
    x = layers.ReLU()(convolve(layers.Rescaling(4, -2)(images), width, stride=2))
    for filters in (2 * width, 4.5 * width, 9 * width):
        x = layers.ReLU()(convolve(x, filters, stride=2))
        change = convolve(layers.ReLU()(convolve(x, filters)), filters)
        x = layers.ReLU()(layers.Add()([x, change]))
    x = layers.ReLU()(convolve(x, 16 * width, side=1))
    return Model(images, layers.GlobalAveragePooling2D()(x))


def augment(images, random):
    """Flip, cut, light and tint each square of a batch at random; make a few grey.

    Takes uint8 [batch, SIZE, SIZE, 3] and Keras' generator of seeds; gives float32 in
    [0, 1].
    """
    import keras
    from keras import ops

    normal = partial(keras.random.normal, seed=random)
    uniform = partial(keras.random.uniform, seed=random)
    n, last, grid = ops.shape(images)[0], SIZE - 1, ops.arange(SIZE, dtype="float32")
    side = uniform((n, 2, 1), 0.82, 1)
    places = uniform((n, 2, 1)) * (1 - side) * last + side * grid
    rows, columns = places[:, 0], places[:, 1]
    columns = ops.where(uniform((n, 1)) < 0.5, last - columns, columns)
    rows, columns = (ops.relu(1 - abs(x[..., None] - grid)) for x in (rows, columns))
    images = ops.cast(images, "float32") / 255
    images = ops.einsum("nih,nhwc,njw->nijc", rows, images, columns)  # bilinear
    light = normal((n, 1, 1, 1), 1, 0.1) * normal((n, 1, 1, 3), 1, 0.04)
    images = images * light + normal((n, 1, 1, 1), 0, 0.04)
    grey = ops.mean(images, 3, keepdims=True)
    images = ops.where(uniform((n, 1, 1, 1)) < 0.06, grey, images)
    return ops.clip(images, 0, 1)


def add_heads(body, plan: Plan, steps: int):
    """A network with two linear layers on its features, ready to be trained.

    One names the species, the other predicts the dog's numbers: a feature that tells
    how long an ear is serves for other dogs as well. It augments the squares itself.
    """
    from keras import Input, Model, layers, losses, optimizers
    from keras.random import SeedGenerator

    squares, random = Input((SIZE, SIZE, 3), dtype="uint8"), SeedGenerator(plan.seed)
    features = body(layers.Lambda(augment, arguments={"random": random})(squares))
    sizes = {"species": plan.species, "numbers": NUMBERS}
    heads = {k: layers.Dense(n, kernel_initializer="zeros") for k, n in sizes.items()}
    model = Model(squares, {k: head(features) for k, head in heads.items()})
    rise = {"warmup_target": plan.learning_rate, "warmup_steps": steps // 20}
    rate = optimizers.schedules.CosineDecay(0.0, steps, **rise)
    model.compile(
        optimizers.AdamW(rate, weight_decay=0.05),
        {"species": losses.SparseCategoricalCrossentropy(True), "numbers": "mse"},
        loss_weights={"species": 1.0, "numbers": 50.0},
        jit_compile=backend() == "jax",  # XLA is slow without a GPU, but JAX needs it
    )
    return model


def pretrain(body, data: Data, plan: Plan) -> dict[str, float]:
    """Train a network on the squares of a plan; gives the last epoch's mean losses."""
    total, shuffle = len(data[2]), np.random.default_rng(plan.seed)
    order = np.concatenate([shuffle.permutation(total) for _ in range(plan.epochs)])
    steps = len(order) // plan.batch
    done = max(1, int(plan.training_fraction * steps))
    model, epoch = add_heads(body, plan, steps), ceil(total / plan.batch)

    def batches(steps: range):
        for step in steps:
            batch = order[step * plan.batch :][: plan.batch]
            squares, numbers, labels = (array[batch] for array in data)
            bar.update()
            yield squares, {"species": labels, "numbers": numbers}

    with progress(None, done, "steps") as bar:
        for first in range(0, done, epoch):
            steps = range(first, min(first + epoch, done))
            options = {"steps_per_epoch": len(steps), "shuffle": False, "verbose": 0}
            past = model.fit(batches(steps), **options)
    return {name: round(losses[0], 5) for name, losses in past.history.items()}


def untrained(home: Path) -> Path:
    """Return the folder of the toy's network with random weights; made at first use."""
    folder = home / "modules" / f"toy_random-{CODE}"
    if not frameworks.is_saved_model(folder):
        with default_keras_config():
            export_keras(network(), folder)
    return folder


def device() -> str:
    """What Keras computes on, such as "cpu:0", or by its name where JAX knows one."""
    if backend() == "jax":
        return import_module("jax").devices()[0].device_kind
    return import_module("keras").distribution.list_devices()[0]


def make(
    plan: Plan, folder: Path, data: Data | None = None, weights: Path | None = None
) -> None:
    """Train and export a network; what was in the folder is replaced at the end.

    `module.json` beside it says what made it. `data` saves drawing the squares again.
    With `weights`, a file named *.weights.h5, nothing is exported: the weights go there
    and the facts into a .json beside, for `finish`. It's for other Keras backends.
    """
    body, data = network(plan.width, plan.seed), data or draw_squares(plan)
    start = perf_counter()
    losses = pretrain(body, data, plan)
    facts = {
        "size": SIZE,
        "features": body.output_shape[1],
        "parameters": body.count_params(),
        "plan": asdict(plan),
        "losses": losses,
        "trained_on": {
            "backend": f"{backend()} {version(backend())}",
            "device": device(),
            "minutes": round((perf_counter() - start) / 60, 1),
        },
        "versions": {name: version(name) for name in LIBRARIES},
    }
    if weights:
        body.save_weights(weights)
        weights.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        export_keras(body, folder, facts)


def finish(weights: Path, folder: Path) -> None:
    """Export the network whose weights `make` saved, on whatever backend."""
    facts = json.loads(weights.with_suffix(".json").read_text("utf-8"))
    body = network(facts["plan"]["width"])
    body.load_weights(weights)
    shutil.rmtree(folder, ignore_errors=True)
    export_keras(body, folder, facts)


def main(arguments: list[str] | None = None) -> None:
    """The command line: three options for files and one for each line of the plan."""
    parser = argparse.ArgumentParser("python -m dogtl.toy.pretrain")
    files = {
        "folder": "what to make; default: the package's own",
        "weights": "save these, in a .weights.h5 file, instead of making the folder",
        "from": "make the folder of such a file, instead of training",
    }
    for name, about in files.items():
        parser.add_argument(f"--{name}", type=Path, help=about)
    for name, value in asdict(Plan()).items():
        about = {"type": type(value), "default": value, "help": f"default: {value}"}
        parser.add_argument(f"--{name.replace('_', '-')}", **about)
    options = vars(parser.parse_args(arguments))
    folder, weights, trained = (options.pop(name) for name in files)
    folder = (folder or toy.MODULE).absolute()
    if not weights and backend() != "tensorflow":
        parser.error(f"{backend()} can't write a SavedModel: give --weights")
    if trained:
        finish(trained, folder)
    else:
        make(Plan(**options), folder, weights=weights)


if __name__ == "__main__":
    main()
