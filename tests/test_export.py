"""Exports: one model in a folder that TensorFlow alone loads, or nothing at all."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import HOSTILE, files_of, python, random_layer, sentence
from PIL import Image

import dogtl
from dogtl import DogtlError, load_model, load_module

REAL = Path(__file__).parents[2] / "shared" / "real"
NEAR, NEAR_TFLITE, MARGIN = 1e-5, 1e-4, 1e-3  # probabilities


@pytest.fixture(scope="session")
def kennel_model(kennel, tmp_path_factory):
    """The kennel's layer as a model; it's shared."""
    folder = tmp_path_factory.mktemp("models") / "kennel"
    made = (kennel.layer, kennel.module, folder, kennel.evaluation, True, "kennel")
    assert dogtl.export(*made) == folder
    return folder


# --- without dogtl --------------------------------------------------------------------

ALONE = """
import sys
sys.modules["dogtl"] = None  # so importing it fails
exec(sys.argv[1])
squares = np.load("squares.npy").astype(np.float32) / 255
served = tf.saved_model.load(".").signatures["serving_default"]
batches = [squares[i : i + 50] for i in range(0, len(squares), 50)]
whole = np.concatenate([model(batch) for batch in batches])
same = [served(squares=tf.constant(batch))["probabilities"] for batch in batches]
assert np.array_equal(whole, np.concatenate(same))
lite = [signature(squares=square[None])["probabilities"] for square in squares]
np.savez("rows.npz", whole=whole, lite=np.concatenate(lite))
"""


def run_alone(model, squares, photo, folder):
    """Run the model card's code, without dogtl; gives its output and probabilities."""
    shutil.copytree(model, folder)
    shutil.copy(photo, folder / "photo.jpg")
    np.save(folder / "squares.npy", np.stack(squares))
    card = (folder / "README.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    here = "Interpreter = tf.lite.Interpreter"
    code = re.sub("from ai_edge_litert.* import Interpreter", here, code)
    process = python(f"import os; os.chdir({str(folder)!r})\n{ALONE}", code)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, np.load(folder / "rows.npz")


def check_alone(model, layer, module, bottlenecks, squares, folder):
    """Compare what the model says of test squares with what module and layer say."""
    photos, files = squares.paths["test"], squares.files["test"]
    squares = [dogtl.read_square(file) for file in files]
    out, rows = run_alone(model, squares, photos[0], folder)
    (result,) = dogtl.predict(layer, module, photos[:1])
    breed, probability = out.split()
    best = result["predictions"][0]
    assert breed == best["breed"]
    assert float(probability) == pytest.approx(best["probability"], abs=NEAR)
    expected = layer.probabilities(bottlenecks["test"].features)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second > MARGIN
    for name, near in (("whole", NEAR), ("lite", NEAR_TFLITE)):
        assert abs(rows[name] - expected).max() < near, name
        assert (rows[name].argmax(1) == expected.argmax(1))[clear].all(), name


def test_the_kennel_s_model_alone(kennel, kennel_model, tmp_path):
    made = (kennel.layer, kennel.module, kennel.bottlenecks, kennel.squares)
    check_alone(kennel_model, *made, tmp_path / "alone")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real photos and module here")
def test_a_real_model_alone(home, tmp_path):
    module = load_module(REAL / "modules" / "mobilenet_v2_100_224")
    photos = dogtl.load_photos(REAL / "clothing-small")
    del photos.paths["train"]  # any layer will do
    squares = dogtl.square(photos, module.size)
    bottlenecks = dogtl.extract(squares, module)
    layer = dogtl.fit(bottlenecks["valid"], bottlenecks["test"], l2=0.01)
    model = dogtl.export(layer, module, tmp_path / "model", tflite=True)
    check_alone(model, layer, module, bottlenecks, squares, tmp_path / "alone")


# --- with dogtl, anywhere -------------------------------------------------------------


def test_load_model_predicts_as_predict_does(kennel, kennel_model, tmp_path, home):
    photos = kennel.photos.paths["test"][::40]
    moved = shutil.copytree(kennel_model, tmp_path / "moved")
    Image.new("LA", (50, 20), (90, 120)).save(tmp_path / "clear.png")
    photos += [tmp_path / "clear.png", tmp_path / "missing.jpg"]
    model = load_model(moved)
    results = model.predict(photos, top=3)
    expected = dogtl.predict(kennel.layer, kennel.module, photos, top=3)
    for result, one in zip(results, expected, strict=True):
        assert result["photo"] == one["photo"]
        assert result.get("error") == one.get("error")
        pairs = (r.get("predictions", []) for r in (result, one))
        for a, b in zip(*pairs, strict=True):
            assert a["breed"] == b["breed"]
            assert a["probability"] == pytest.approx(b["probability"], abs=NEAR)
    assert model(np.zeros((2, 112, 112, 3))).sum(1) == pytest.approx([1, 1])
    assert model.breeds == kennel.layer.breeds and not home.exists()


def test_what_is_beside_it(kennel, kennel_model):
    facts = json.loads((kennel_model / "model.json").read_text("utf-8"))
    evaluation, module = kennel.evaluation, kennel.module
    assert facts["labels"] == kennel.layer.breeds and facts["size"] == 112
    assert facts["accuracy"] == evaluation.accuracy and facts["n_photos"] == 240
    assert facts["interval"] == list(evaluation.interval)
    assert facts["photos"] == "kennel" and facts["module"]["name"] == "toy"
    assert facts["module"]["fingerprint"] == module.fingerprint
    assert {"tensorflow", "pillow"} <= set(facts["versions"])
    card = (kennel_model / "README.md").read_text("utf-8")
    low, high = (f"{100 * end:.1f}" for end in evaluation.interval)
    accuracy = f"{100 * evaluation.accuracy:.1f} %, 95 % interval [{low}, {high}]"
    for text in (accuracy, "MIT", "LiteRT", *kennel.layer.breeds):
        assert text in card
    assert "$" not in card
    for name, data in files_of(kennel_model).items():
        assert str(kennel.home).encode() not in data, name


LOCAL, TF_HUB = "check where you got it from", "https://tfhub.dev/x/1"


@pytest.mark.parametrize(
    ("kind", "name", "source"),
    [  # a file or folder, called something, and where the card says it's from
        ("grid", None, LOCAL),  # it writes to its variables
        ("grid", "inception_v3", "https://www.kaggle.com/"),
        ("colours", TF_HUB, TF_HUB),
        ("keras_file", None, LOCAL),
        ("keras_file", "keras:VGG16", "https://keras.io/api/applications"),
    ],
)
def test_every_kind_of_module(request, kind, name, source, tmp_path):
    place = request.getfixturevalue(kind)
    module = load_module(place, 24 if kind == "colours" else None)
    module = replace(module, name=name or module.name)
    layer = random_layer(module)
    model = load_model(dogtl.export(layer, module, tmp_path / "a" / "model"))
    shape = (3, module.size, module.size, 3)
    squares = np.random.default_rng(0).random(shape, np.float32)
    expected = layer.probabilities(module(squares))
    np.testing.assert_allclose(model(squares), expected, atol=NEAR)
    assert model.facts["module"]["name"] == (name or place.name)
    card = (model.folder / "README.md").read_text("utf-8")
    assert "not measured" in card and source in card and not model.facts["photos"]
    assert (source == LOCAL) != ("see that page" in card)
    assert str(place.parent) not in card + json.dumps(model.facts)
    assert "LiteRT" not in card and not (model.folder / "model.tflite").exists()


def test_no_name_writes_html_or_markup_into_the_card(grid, tmp_path):
    module = load_module(grid)
    layer = replace(random_layer(module), breeds=[HOSTILE, "_b_", "001.C_d", "\udce9"])
    made = (layer, module, tmp_path / "model")
    card = (dogtl.export(*made, photos="<b>\n|`x`") / "README.md").read_text("utf-8")
    for shown in (r"\](x.png) \<svg onload", r", \_b\_, 001.C_d,", r"\<b\> \|\`x\`;"):
        assert shown in card


# --- whole or not at all --------------------------------------------------------------


def refused(match, call, *arguments, **options) -> str:
    """The sentence that refuses something."""
    with pytest.raises(DogtlError, match=match) as caught:
        call(*arguments, **options)
    return sentence(caught)


def test_only_an_export_is_replaced(kennel_model, grid, tmp_path):
    module = load_module(grid)
    layer = random_layer(module)
    model = shutil.copytree(kennel_model, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    os.symlink(model, tmp_path / "link")
    for folder in ("empty", "link", "model"):
        made = dogtl.export(layer, module, tmp_path / folder)
        assert load_model(made).breeds == [*"abcd"]
        assert not (made / "model.tflite").exists()
    (tmp_path / "file").write_bytes(b"x")
    shutil.copytree(model, tmp_path / "more")
    (tmp_path / "more" / "notes.txt").write_bytes(b"x")
    shutil.copytree(grid, tmp_path / "module")
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other" / "model.json").write_text('{"labels": ["a"], "size": 32}')
    before = files_of(tmp_path)
    for name in ("file", "more", "module", "other"):
        made = (layer, module, tmp_path / name)
        refused(f"{name} exists.*another folder", dogtl.export, *made)
    assert files_of(tmp_path) == before


def test_nothing_is_left_of_what_can_t_be_written(grid, colours, tmp_path, monkeypatch):
    module, one = load_module(grid), load_module(colours, 24)
    made = (random_layer(one), one, tmp_path / "models" / "a[b]")
    folder = dogtl.export(*made)
    before = files_of(folder)
    refused("trained with the module", dogtl.export, made[0], module, folder)
    names = [f".{name}.0123abcd.part" for name in ("a[b]", "a", "ab")]
    for name in names:  # the first was left by a killed export
        (folder.parent / name / "variables").mkdir(parents=True)
    tf = dogtl.import_tensorflow()
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", lambda _: 1 / 0)
    refused("leave out --tflite", dogtl.export, *made, tflite=True)
    assert files_of(folder) == before
    assert {*os.listdir(folder.parent)} == {"a[b]", *names[1:]}


def test_what_is_no_model(kennel_model, grid, tmp_path):
    bad = shutil.copytree(kennel_model, tmp_path / "bad")
    facts = json.loads((bad / "model.json").read_text("utf-8"))
    changes = [{"labels": labels} for labels in ([], "ab", [1])]
    changes += [{"size": size} for size in ("9", 0)]
    for change in (*changes, {"made_by": ""}):
        (bad / "model.json").write_text(json.dumps(facts | change))
        refused("bad holds no model.*dogtl export", load_model, bad)
    for text in ("", "[]", "null", '"x"', "{"):
        (bad / "model.json").write_text(text)
        refused("bad holds no model", load_model, bad)
    for folder in (tmp_path / "missing", grid):
        refused(f"{folder.name} holds no model", load_model, folder)
    (bad / "model.json").write_text(json.dumps(facts | {"labels": ["a", "b"]}))
    refused(r"\[1, 12\]", load_model(bad), np.zeros((1, 112, 112, 3)))
    (bad / "model.json").write_text(json.dumps(facts))
    (bad / "saved_model.pb").write_bytes(b"x")
    refused("bad can't be loaded", load_model(bad), np.zeros((1, 112, 112, 3)))
