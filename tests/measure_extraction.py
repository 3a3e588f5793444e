"""Measure `dogtl extract` on a full-size network with random weights (no test).

    python tests/measure_extraction.py InceptionV3 299 500 2000
    python tests/measure_extraction.py InceptionResNetV2 299 200

draws so many photos, exports the network of keras.applications as a feature vector
that takes images of any size, and prints for each number of photos the seconds and the
peak memory of each step's own process. Time and memory depend on the architecture, not
on the weights.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

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


def draw(file: Path, seed: int) -> None:
    """A photo of about the size and the weight of one of Udacity's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    pixels = np.asarray(coarse.resize((600, 530)), np.int16)
    noisy = pixels + rng.integers(-20, 21, pixels.shape, np.int16)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=85)


def draw_photos(folder: Path, number: int) -> None:
    """Ten breeds; four in five photos to train, one in ten to each other split."""
    splits = ["train"] * 8 + ["valid", "test"]
    files = [
        folder / splits[i // 10 % 10] / f"{i % 10:03}.Breed" / f"{i}.jpg"
        for i in range(number)
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, files, range(number)))


def measure(*words: object) -> tuple[float, float]:
    """Run a command; gives its seconds and its peak memory in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, words)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0, words
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def main(network: str, size: str, *numbers: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home, module = Path(scratch, "home"), Path(scratch, "module")
        measure("-c", EXPORT, network, module)
        for number in map(int, numbers):
            photos = Path(scratch, f"photos-{number}")
            draw_photos(photos, number)
            words = ["--photos", photos, "--module", module, "--size", size]
            for step in ("square", "extract"):
                line = ["-m", "dogtl", step, *words, "--home", home]
                seconds, megabytes = measure(*line)
                print(
                    f"{network} {size} {step}: {number} photos, {seconds:.1f} s,"
                    f" {seconds / number:.4f} s a photo, {megabytes:.0f} MB at most,"
                    f" {os.cpu_count()} cores",
                    flush=True,
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
