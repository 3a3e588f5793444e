"""Modules are inspected once, and what is none is told in one sentence."""

import functools
import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from conftest import export, files_of, python, sentence, times_of
from http_server import tarred

import dogtl
from dogtl import MODULES, DogtlError, load_module, toy

REAL = Path(__file__).parents[2] / "shared" / "real"
PIXELS = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)


def save(folder, call, *shape, dtype=np.float32, variables=()):
    """Save a function of images of some shape as a module; gives its folder."""
    tf = dogtl.import_tensorflow()
    network = tf.Module()
    network.variables_ = variables
    signature = [tf.TensorSpec(shape, dtype)]
    network.__call__ = tf.function(call, input_signature=signature)
    tf.saved_model.save(network, str(folder))
    return folder


def refused(match, module, size=None) -> str:
    """The sentence that refuses a module."""
    with pytest.raises(DogtlError, match=match) as caught:
        load_module(module, size)
    return sentence(caught)


# --- what modules say of themselves ---------------------------------------------------


def test_the_toy():
    module = load_module()
    assert (module.name, module.label, module.folder) == ("toy", "toy", toy.MODULE)
    assert (module.size, module.n_features) == (112, 256)
    costs = (
        f"{module.n_parameters:,} parameters, {module.multiply_adds:,} multiply-adds"
    )
    assert repr(module) == f"toy: 112 x 112 pixels to 256 features, {costs}"
    assert module(np.zeros((2, 112, 112, 3))).shape == (2, 256)


def test_a_module_maps_squares_to_features(grid):
    module = load_module(grid)
    assert (module.name, module.label) == (str(grid), "grid")
    expected = PIXELS.reshape(3, 4, 8, 4, 8, 3).mean((2, 4)).reshape(3, 48)
    for images in (PIXELS, PIXELS.astype(np.float64), PIXELS.tolist()):
        features = module(images)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, rtol=1e-5)
    assert module(PIXELS[:0]).shape == (0, 48)


def test_a_fixed_size(grid, monkeypatch):
    module = load_module(grid)
    assert (module.size, module.n_features) == (32, 48)
    # it writes to its variables, so they can't be taken for constants and counted
    assert (module.n_parameters, module.multiply_adds) == (2, 0)
    assert load_module(grid, 32).size == 32
    for asked in ("32", ""):
        monkeypatch.setenv("DOGTL_SIZE", asked)
        assert astuple(load_module(grid)) == astuple(module)
    assert str(grid) in refused("squares of 32 pixels: set --size", grid, 224)


def test_any_size(colours, monkeypatch):
    assert str(colours) in refused("any size: set --size.*trained on", colours)
    monkeypatch.setenv("DOGTL_SIZE", "24")
    small, large = load_module(colours), load_module(colours, 50)
    assert (small.size, large.size, small.n_features) == (24, 50, 6)
    assert small.fingerprint != large.fingerprint
    assert small.multiply_adds < large.multiply_adds


BAD_SIZES = [0, -1, 1.5, "abc", " ", "²", "007", " 32", "32\n", 4097, 10**8]


@pytest.mark.parametrize("size", BAD_SIZES)
def test_a_size_that_is_none(colours, size):
    refused("from 1 to 4096", colours, size)


def test_the_table():
    assert next(iter(MODULES)) == "toy"
    for word, (place, size) in MODULES.items():
        assert word.isidentifier() and 100 < size < 400
        here = Path(place).is_dir() or word == "toy_random"
        assert here or place.startswith("https://"), word
    assert len({place for place, _ in MODULES.values()}) == len(MODULES)


def test_the_table_s_size_comes_last(web, grid, colours, monkeypatch):
    for name, folder, size in (("any", colours, 40), ("fixed", grid, 32)):
        web.serve(name, tarred(folder))
        monkeypatch.setitem(MODULES, "mine", (web.address(name), 40))
        assert load_module("mine").size == load_module(web.address(name)).size == size
        assert load_module("mine", 32).size == 32


def test_costs_as_counted_by_hand(tmp_path):
    tf = dogtl.import_tensorflow()
    filters = tf.Variable(tf.ones([4, 4, 3, 5]))
    weights = tf.Variable(tf.ones([8 * 8 * 5, 7]))

    def call(images):
        maps = tf.nn.conv2d(images, filters, 4, "VALID")
        return tf.reshape(maps, [-1, 8 * 8 * 5]) @ weights

    unused = tf.Variable(tf.ones([1000]))
    variables = [filters, weights, unused]
    module = load_module(save(tmp_path, call, None, 32, 32, 3, variables=variables))
    assert module.n_parameters == 4 * 4 * 3 * 5 + 8 * 8 * 5 * 7
    assert module.multiply_adds == 8 * 8 * 5 * (4 * 4 * 3) + 8 * 8 * 5 * 7


@pytest.mark.skipif(not REAL.is_dir(), reason="no real module here")
def test_costs_of_a_real_module():
    module = load_module(REAL / "modules" / "mobilenet_v2_100_224")
    assert (module.size, module.n_features) == (224, 1280)
    assert module.multiply_adds == pytest.approx(300e6, rel=0.02)
    assert module.n_parameters == pytest.approx(2.2e6, rel=0.02)


# --- modules from an address ----------------------------------------------------------


def test_a_module_from_an_address_is_that_from_its_folder(web, grid, home):
    served = web.serve("m/1", tarred(grid), cuts=[1000])
    web.serve("old/1", b"", to="m/1")
    here = load_module(grid)
    for name in ("m/1", "old/1", "m/1"):
        there = load_module(web.address(name))
        assert there.name == web.address(name) and there.label.endswith(name)
        assert astuple(there)[2:] == astuple(here)[2:]
        assert np.array_equal(there(PIXELS), here(PIXELS))
        assert there.folder.parent == home / "modules"
        assert files_of(there.folder) == files_of(grid)
    assert served.asked == [None, "bytes=1000-", None]
    assert set(web.queries) == {"tf-hub-format=compressed"}
    web.serve("q", tarred(grid))
    load_module(f"{web.address('q')}?version=2")
    assert web.queries[-1] == "version=2&tf-hub-format=compressed"


def test_an_address_that_gives_no_module(web):
    web.serve("m", b"<html>")
    for address in (web.address("m"), "http://127.0.0.1:9/m/1", "nonsense://x/y"):
        assert address in refused("usable archive|respond", address)


# --- Keras' networks ------------------------------------------------------------------


@pytest.fixture
def unfetched(monkeypatch):
    """Networks of Keras with random weights, always the same ones."""
    dogtl.import_tensorflow()
    import keras

    def patch(name, seed=0, **options):
        make = inspect.unwrap(getattr(keras.applications, name))

        @functools.wraps(make)
        def seeded(**more):
            keras.utils.set_random_seed(seed)
            return make(**{"weights": None} | options | more)

        monkeypatch.setattr(keras.applications, name, seeded)
        return seeded

    return patch


@pytest.mark.parametrize("name", ["MobileNet", "VGG16", "MobileNetV3Small"])
def test_a_network_of_keras_gets_what_it_expects(unfetched, name):
    """Three kinds: values from -1 to 1, means taken off BGR, and values to 255."""
    make = unfetched(name)
    network = make(include_top=False, pooling="avg", input_shape=(32, 32, 3))
    ready = sys.modules[make.__module__].preprocess_input(255 * PIXELS)
    expected = network(ready).numpy()
    features = dogtl.modules._build_keras(f"keras:{name}", 32)(PIXELS).numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5)


def test_a_network_of_keras_by_its_name(unfetched, home, tmp_path):
    unfetched("MobileNet", alpha=0.25)
    module = load_module("keras:MobileNet")
    assert (module.name, module.label) == ("keras:MobileNet",) * 2
    assert (module.size, module.n_features) == (224, 256)
    assert module(np.zeros((2, 224, 224, 3))).shape == (2, 256)
    assert python(MET, "keras:MobileNet").communicate(timeout=60) == ("224\n", "")
    there = load_module("keras:MobileNet", 224, tmp_path / "there")
    assert astuple(there)[2:] == astuple(module)[2:]  # wherever it was made
    unfetched("MobileNet", alpha=0.25, seed=1)
    other = load_module("keras:MobileNet", home=tmp_path / "elsewhere")
    assert other.fingerprint != module.fingerprint


def test_what_keras_lacks_or_can_t_fetch(home, monkeypatch):
    listed = refused("Keras has no 'Inception'", "keras:Inception")
    assert {"InceptionV3", "VGG16", "Xception"} <= set(re.findall(r"\w+", listed))
    source = sys.modules["keras.src.applications.vgg16"]
    monkeypatch.setattr(source, "WEIGHTS_PATH_NO_TOP", "http://127.0.0.1:9/no_such.h5")
    assert "dogtl fetch" in refused("keras:VGG16 .*refused", "keras:VGG16", 32)
    refused("at least 32x32.*--size", "keras:VGG16", 8)
    refused("no module /", Path("keras:VGG16"))
    assert not files_of(home)


def test_a_model_file_of_keras(keras_file, tmp_path):
    import keras

    module = load_module(keras_file)
    assert (module.size, module.n_features, module.label) == (32, 5, "mine.keras")
    assert module.n_parameters == (3 * 3 * 3 + 1) * 5 + 4 * 5
    expected = keras.saving.load_model(keras_file)(PIXELS).numpy()
    np.testing.assert_allclose(module(PIXELS), expected, rtol=1e-5, atol=1e-6)
    moved = shutil.copy(keras_file, tmp_path / "moved.keras")
    assert load_module(moved, home=tmp_path).fingerprint == module.fingerprint
    refused("32 pixels: set --size", keras_file, 64)


def test_model_files_that_could_run_code_or_are_none(tmp_path, home):
    dogtl.import_tensorflow()
    import keras

    class Own(keras.layers.Layer):
        def call(self, images):
            return images

    def write(images):
        (tmp_path / "ran").touch()
        return images

    one, other = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    for name, takes, layer in (
        ("evil", one, keras.layers.Lambda(write)),
        ("own", one, Own()),
        ("two", [one, other], keras.layers.Add()),
    ):
        file = tmp_path / f"{name}.keras"
        keras.Model(takes, layer(takes)).save(file)
        (tmp_path / "ran").unlink(missing_ok=True)  # here the function is known
        refused(f"{name}.keras can't be used.*no Lambda", file)
    assert not (tmp_path / "ran").exists() and not files_of(home)
    (tmp_path / "bad.keras").write_bytes(b"x")
    refused("bad.keras can.t be used", tmp_path / "bad.keras")
    refused("missing.keras", tmp_path / "missing.keras")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KERAS_BACKEND", "jax"),
        ("KERAS_BACKEND", "nonsense"),
        ("backend", "jax"),
        ("floatx", "float99"),
    ],
)
def test_another_backend_of_keras_is_refused(grid, name, value, tmp_path, monkeypatch):
    """None of them can be imported here; the last two are in keras.json."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    (tmp_path / "keras.json").write_text(json.dumps({name: value}))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if name.isupper():
        monkeypatch.setenv(name, value)
    code = "import sys, dogtl.cli; sys.exit(dogtl.cli.main(sys.argv[1:]))"
    process = python(code, "fetch", "--module", grid)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    shown = "unknown setting" if name == "floatx" else value
    assert shown in err and "set KERAS_BACKEND=tensorflow" in sentence(err)


SETTINGS = """
import json, sys
import numpy as np
import dogtl
features = dogtl.load_module("toy_random", home=sys.argv[1])(np.ones((1, 112, 112, 3)))
from keras import config
print(json.dumps([features.tolist(), config.floatx(), config.image_data_format()]))
"""


def test_the_user_s_settings_of_keras_change_no_network(home, tmp_path, monkeypatch):
    settings = {"floatx": "float16", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    out, err = python(SETTINGS, home).communicate(timeout=120)
    features, *kept = json.loads(out)
    assert kept == list(settings.values())  # nor are they changed
    expected = load_module("toy_random", home=tmp_path / "other")
    images = np.ones((1, 112, 112, 3))
    np.testing.assert_allclose(expected(images), features, rtol=1e-5, atol=1e-5)


# --- a second look, and other settings --------------------------------------------


MET = """
import sys
import dogtl
print(dogtl.load_module(sys.argv[1]).size)
assert not {"tensorflow", "keras", "tensorflow_hub"} & set(sys.modules)
"""


def test_what_is_known_is_stored_and_needs_no_tensorflow(grid, home):
    known = astuple(load_module(grid))
    before, good = times_of(home), files_of(home)
    assert astuple(load_module(grid)) == known
    assert python(MET, grid).communicate(timeout=60) == ("32\n", "")
    assert times_of(home) == before
    (stored,) = (home / "modules").iterdir()
    fields = dogtl.store.load_arrays(stored)
    broken = [{"size": [32, 32]}, {"size": 32.0}, {"size": "32"}, {"more": 1}]
    for some in ({}, {"size": 32}, *(fields | change for change in broken)):
        dogtl.store.save_arrays(stored, some)
        assert astuple(load_module(grid)) == known and files_of(home) == good


EVERYTHING = """
import os, sys
before = dict(os.environ)
import numpy as np
import dogtl
from dogtl import linear
from dogtl.cli import main
linear.MAX_EPOCHS = 3
assert "tensorflow" not in sys.modules
assert dogtl.import_tensorflow() is sys.modules["tensorflow"]
photos, module, new = sys.argv[1:]
photo = photos + "/test/001.Red_setter/dog_00.jpg"
for command in (["run"], ["predict", photo]):
    assert main([*command, "--photos", photos, "--module", module]) == 0
print(dogtl.load_module(new, 24)(np.ones((2, 24, 24, 3))).shape, file=sys.stderr)
assert dict(os.environ) == before
"""


def test_tensorflow_says_nothing_and_no_variable_is_set(photos, grid, colours):
    """TensorFlow's own variables were set by that of the tests, and are inherited."""
    process = python(EVERYTHING, photos, grid, colours)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    foreign = [line for line in err.splitlines() if not line.startswith("dogtl: ")]
    assert foreign == ["(2, 6)"]


def test_tensorflow_is_imported_with_standard_error_closed():
    code = "import dogtl; dogtl.import_tensorflow()"
    line = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    subprocess.run(line, check=True)


# --- what is no module ----------------------------------------------------------------


ANY = [None, 32, 32, 3]
ODD = {  # what a network takes and gives, and what is said of it
    "vectors": ([None, 48], lambda tf, x: x, "feature vector|--size"),
    "grey": ([None, 32, 32, 1], lambda tf, x: x[:, 0, 0], "feature vector|--size"),
    "bytes": (ANY, lambda tf, x: x[:, 0, 0], "feature vector|--size"),
    "a map": (ANY, lambda tf, x: x, r"\[2, 32, 32, 3\]\)"),
    "a row": (ANY, lambda tf, x: x[:, 0, 0, 0], r"the shape \[2\]"),
    "no row": (ANY, lambda tf, x: x[0, 0, 0, 0], r"the shape \[\]"),
    "fewer": (ANY, lambda tf, x: x[:1, 0, 0], r"the shape \[1, 3\]"),
    "none": (ANY, lambda tf, x: x[:, 0, 0, :0], r"shape \[2, 0\]"),
    "a dict": (ANY, lambda tf, x: {"default": x[:, 0, 0]}, "returns a dict"),
    "text": (ANY, lambda tf, x: tf.as_string(x[:, 0, 0]), "Cast string"),
    "one": ([1, 32, 32, 3], lambda tf, x: x[:, 0, 0], "batches of 1 only"),
    "eight": ([8, 32, 32, 3], lambda tf, x: x[:, 0, 0], "batches of 8 only"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_network_that_is_no_feature_vector_of_images(tmp_path, home, kind):
    shape, call, match = ODD[kind]
    call = functools.partial(call, dogtl.import_tensorflow())
    dtype = np.uint8 if kind == "bytes" else np.float32
    folder = save(tmp_path / "odd", call, *shape, dtype=dtype)
    for size in (32, 32, None):
        assert str(folder) in refused(match, folder, size)
    assert not files_of(home)  # nothing is stored of what is no module


def test_numbers_of_other_kinds_and_a_width_that_varies(tmp_path):
    tf = dogtl.import_tensorflow()
    for dtype in ("bfloat16", "float16", "float64", "int32", "uint8"):
        call = functools.partial(lambda dtype, x: tf.cast(8 * x[:, 0, 0], dtype), dtype)
        module = load_module(save(tmp_path / dtype, call, *ANY))
        near = 1 if "int" in dtype else 0.05
        assert module(PIXELS).dtype == np.float32
        np.testing.assert_allclose(module(PIXELS), 8 * PIXELS[:, 0, 0], atol=near)

    def wider(images):
        return tf.tile(images[:, 0, 0], [1, len(images)])

    module = load_module(save(tmp_path / "wider", wider, *ANY))
    with pytest.raises(DogtlError, match=r"wider .*shape \[3, 9\].*choose") as caught:
        module(PIXELS)
    sentence(caught)


def old_format(folder):
    tf = dogtl.import_tensorflow()
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 32, 32, 3])
        scale = v1.get_variable("scale", [], use_resource=True)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def(
            {"images": images}, {"default": scale * tf.reduce_mean(images, [1, 2])}
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, [], {"default": signature})
        builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")


def test_a_network_that_can_t_be_called(tmp_path):
    export(tmp_path / "uncallable", "Uncallable")
    old_format(tmp_path / "old")
    for folder in (tmp_path / "uncallable", tmp_path / "old"):
        assert str(folder) in refused("current format", folder)


def test_a_folder_without_a_module(tmp_path, grid):
    cut = shutil.copytree(grid, tmp_path / "cut")
    network = (cut / "saved_model.pb").read_bytes()
    (cut / "saved_model.pb").write_bytes(network[: len(network) // 2])
    bare = shutil.copytree(grid, tmp_path / "bare")
    shutil.rmtree(bare / "variables")
    (tmp_path / "empty").mkdir()
    for folder in (cut, bare, tmp_path / "empty"):
        assert str(folder) in refused("can't be loaded", folder)
    for missing in (tmp_path / "missing", cut / "saved_model.pb"):
        assert str(missing) in refused("there is no module", missing)
    text = refused("no module inception.* toy.*that you trust", "inception")
    assert all(word in text for word in MODULES)
