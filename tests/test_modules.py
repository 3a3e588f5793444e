"""Modules are described in one look, and what is none is told in one sentence."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import export, python, times_of

from dogtl import modules
from dogtl.choices import Choice
from dogtl.modules import ModuleError, describe, input_size, load


@pytest.fixture
def choice(tmp_path):
    return Choice("kennel", "toy", None, tmp_path / "home")


def test_a_fixed_input(choice, grid):
    choice = replace(choice, module=str(grid))
    known = describe(choice)
    assert (known.handle, known.size, known.features) == (str(grid), 32, 48)
    assert input_size(choice) == input_size(replace(choice, size=32)) == 32
    with pytest.raises(ModuleError, match=r"32 pixels, not of 224.*--size"):
        input_size(replace(choice, size=224))


def test_a_flexible_input(choice, colours):
    choice = replace(choice, module=str(colours))
    known = describe(choice)
    assert (known.size, known.features) == (None, 6)
    assert input_size(replace(choice, size=50)) == 50
    with pytest.raises(ModuleError, match="--size") as caught:
        input_size(choice)
    assert "\n" not in str(caught.value)


def test_a_module_maps_pixels_to_features(grid, colours):
    pixels = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    seen = load(str(grid))(pixels).numpy()
    expected = pixels.reshape(3, 4, 8, 4, 8, 3).mean((2, 4)).reshape(3, 48)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    seen = load(str(colours))(pixels[:, :20, :20]).numpy()
    np.testing.assert_allclose(seen[:, :3], pixels[:, :20, :20].mean((1, 2)), rtol=1e-5)


def test_what_is_known_is_noted(choice, grid):
    choice = replace(choice, module=str(grid))
    known = describe(choice)
    before = times_of(choice.home)
    load.cache_clear()
    assert describe(choice) == known and input_size(choice) == 32
    assert load.cache_info().currsize == 0  # it was not loaded again
    assert times_of(choice.home) == before


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"handle": 1}', "nonsense"])
def test_a_spoilt_note_is_written_again(choice, grid, text):
    choice = replace(choice, module=str(grid))
    known = describe(choice)
    (note,) = choice.home.rglob("*.json")
    good = note.read_text()
    note.write_text(text)
    assert describe(choice) == known and note.read_text() == good


def test_a_changed_module_is_noticed(choice, tmp_path):
    choice = replace(choice, module=str(tmp_path / "mine"))
    export(tmp_path / "mine", "Grid")
    first = describe(choice)
    shutil.rmtree(tmp_path / "mine")
    export(tmp_path / "mine", "Colours")
    other = describe(choice)
    assert (first.features, other.features, other.size) == (48, 6, None)
    assert first.stamp != other.stamp
    with open(tmp_path / "mine" / "saved_model.pb", "ab") as out:
        out.write(b"")
    assert describe(choice) == other


@pytest.mark.parametrize("kind", ["Vectors", "Grey", "Bytes", "Dict", "Maps"])
def test_a_network_that_is_no_feature_vector_of_images(choice, tmp_path, kind):
    folder = export(tmp_path / kind, kind)
    with pytest.raises(ModuleError, match="feature vector") as caught:
        describe(replace(choice, module=str(folder)))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_that_cannot_be_called(choice, tmp_path):
    folder = export(tmp_path / "uncallable", "Uncallable")
    with pytest.raises(ModuleError, match="can be called") as caught:
        describe(replace(choice, module=str(folder)))
    assert "\n" not in str(caught.value)


def test_a_network_with_signatures_only(choice, tmp_path):
    tf = modules.tensorflow()
    network, folder = tf.Module(), tmp_path / "signatures"

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3])])
    def serve(images):
        return {"features": tf.reduce_mean(images, [1, 2])}

    tf.saved_model.save(network, str(folder), signatures={"serving_default": serve})
    with pytest.raises(ModuleError, match="can be called"):
        describe(replace(choice, module=str(folder)))


def test_a_folder_without_a_module(choice, tmp_path):
    broken = tmp_path / "broken"
    for folder, text in ((tmp_path / "empty", None), (broken, b"nonsense")):
        folder.mkdir()
        if text:
            (folder / "saved_model.pb").write_bytes(text)
        with pytest.raises(ModuleError, match="cannot be loaded") as caught:
            describe(replace(choice, module=str(folder)))
        assert "\n" not in str(caught.value)
    for missing in (tmp_path / "missing", broken / "saved_model.pb"):
        with pytest.raises(ModuleError, match="no module folder"):
            describe(replace(choice, module=str(missing)))


def test_an_address_that_gives_nothing(choice, monkeypatch, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    for address in ("http://127.0.0.1:9/module/1", "nonsense://x/y"):
        with pytest.raises(ModuleError, match="cannot be loaded") as caught:
            describe(replace(choice, module=address))
        assert "\n" not in str(caught.value)


def test_an_unknown_word_lists_the_known_ones(choice):
    with pytest.raises(ModuleError, match="'inception'.* toy") as caught:
        describe(replace(choice, module="inception"))
    assert "\n" not in str(caught.value)


def test_nothing_is_noted_of_what_is_no_module(choice, tmp_path):
    folder = export(tmp_path / "vectors", "Vectors")
    for _ in range(2):
        with pytest.raises(ModuleError):
            describe(replace(choice, module=str(folder)))
    assert not choice.home.exists() or not list(choice.home.rglob("*.json"))


QUIET = """
import sys
import numpy as np
from dogtl import modules
tf = modules.tensorflow()
assert tf is modules.tensorflow() and tf.__name__ == "tensorflow"
network = modules.load(sys.argv[1])
print(network(np.ones([2, 32, 32, 3], np.float32)).shape)
print("an error of one's own is seen", file=sys.stderr)
"""


def test_tensorflow_says_nothing(grid):
    process = python(QUIET, grid)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, "(2, 48)\n")
    assert err == "an error of one's own is seen\n"
