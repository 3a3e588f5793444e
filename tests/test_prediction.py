"""Any photos are predicted: files, folders and images, in batches, as if one by one."""

import os
import shutil
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from conftest import BREEDS
from PIL import Image, ImageOps

import dogtl
from dogtl.prediction import predict_each


def rows(layer, results) -> np.ndarray:
    """The probabilities, in the order of the layer's breeds."""
    named = [{p["breed"]: p["probability"] for p in r["predictions"]} for r in results]
    return np.array([[found[breed] for breed in layer.breeds] for found in named])


def test_batches_give_what_one_at_a_time_and_evaluate_give(done, photos):
    tested, bad = done.evaluation.paths, ["no.jpg", "bad.jpg", "pipe"]
    Path("bad.jpg").write_bytes(b"no image")
    os.mkfifo("pipe")
    Image.new("CMYK", (80, 20)).save("ink.jpg")
    Image.new("RGB", (1, 1), "red").save("dot.png")
    asked = [*tested[:5], *bad, "ink.jpg", "dot.png", *map(str, tested[5:])]
    together = dogtl.predict(done.layer, done.module, asked)
    alone = [dogtl.predict(done.layer, done.module, path)[0] for path in asked]
    assert [one["photo"] for one in together] == [*map(str, asked)]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys() and one.get("error") == other.get("error")
    failed = [one for one in together if "predictions" not in one]
    assert [one["photo"] for one in failed] == bad
    assert all(one["error"] and "\n" not in one["error"] for one in failed)
    good, same = ([r for r in some if "error" not in r] for some in (together, alone))
    seen = rows(done.layer, good)
    np.testing.assert_allclose(seen, rows(done.layer, same), atol=1e-5)
    evaluated = np.delete(seen, (5, 6), axis=0)  # less the two images made here
    np.testing.assert_allclose(evaluated, done.evaluation.probabilities, atol=1e-6)
    assert dogtl.predict(done.layer, done.module, []) == []


def test_predictions_come_most_probable_first(seven, many):
    path = many / "test" / "003.Breed_3" / "dog_00.jpg"
    (result,) = dogtl.predict(seven.layer, seven.module, path)
    values = [one["probability"] for one in result["predictions"]]
    assert len(values) == 5 and values == sorted(values, reverse=True)
    (every,) = dogtl.predict(seven.layer, seven.module, path, top=100)
    assert every["predictions"][:5] == result["predictions"]
    assert sorted(p["breed"] for p in every["predictions"]) == seven.layer.breeds


def test_another_module_or_size_is_refused(done, seven):
    another_size = dogtl.load_module(seven.module.folder, 20, seven.home)
    for layer, module, match in (
        (done.layer, seven.module, "grid.*colours.*train again"),
        (seven.layer, another_size, "train again"),
    ):
        with pytest.raises(dogtl.DogtlError, match=match):
            dogtl.predict(layer, module, done.evaluation.paths)


def test_a_folder_is_searched_for_images(done, mine):
    for name in ("a.txt", ".hidden.jpg", "b.HEIC", ".git/c.jpg", "d.jpg/e.PNG"):
        (mine / "test" / name).parent.mkdir(exist_ok=True)
        shutil.copy(mine / "test" / BREEDS[0] / "dog_00.jpg", mine / "test" / name)
    (mine / "test/f.jpg").symlink_to("nowhere")
    (mine / "test/g.heif").write_bytes(b"no image that can be read")
    Path("empty").mkdir()
    results = dogtl.predict(done.layer, done.module, [mine / "test", "./empty"], top=1)
    found = [os.path.relpath(one["photo"], mine / "test") for one in results[:-1]]
    dogs = [str(p.relative_to(mine / "test")) for p in mine.glob("test/0*/*")]
    assert found == sorted([*dogs, "b.HEIC", "d.jpg/e.PNG", "f.jpg", "g.heif"])
    bad = {Path(one["photo"]).name for one in results if "error" in one}
    assert bad == {"f.jpg", "g.heif", "empty"} and results[-1]["photo"] == "./empty"
    same = dogtl.predict(done.layer, done.module, str(mine / "test"), top=1)
    assert same == results[:-1]


def test_images_are_photos_too(done, photos):
    path = photos / "test" / BREEDS[1] / "dog_01.png"
    with Image.open(path) as image:
        turned = ImageOps.mirror(image).transpose(Image.Transpose.ROTATE_90)
        turned.getexif()[274] = 5  # upright it's the photo again
        before = turned.tobytes()
        clear = turned.convert("LA")
        results = dogtl.predict(
            done.layer, done.module, [image, turned, path, clear, None, 5]
        )
        (single,) = dogtl.predict(done.layer, done.module, turned)
    names = [str(path), "image 2", str(path), "image 4", "image 5", "image 6"]
    assert [one["photo"] for one in results] == names
    assert turned.tobytes() == before and turned.getexif()[274] == 5
    seen = rows(done.layer, [*results[:4], single])
    np.testing.assert_allclose(seen[0], seen[2], atol=1e-6)
    np.testing.assert_allclose(seen[1], seen[4], atol=1e-5)
    assert results[1]["predictions"][0]["breed"] == BREEDS[1]
    assert ["error" in one for one in results] == [False] * 4 + [True] * 2


def test_a_broken_image_is_an_error(done, photos):
    data = (photos / "test" / BREEDS[1] / "dog_00.jpg").read_bytes()
    Path("cut.jpg").write_bytes(data[:-400])
    with Image.open("cut.jpg") as image:
        (result,) = dogtl.predict(done.layer, done.module, [image])
    assert result["photo"] == "cut.jpg" and "truncated" in result["error"]


def test_photos_without_end_are_read_as_they_are_needed(done):
    taken = []

    def endless():
        for number in count():
            taken.append(number)
            yield Image.new("RGB", (40, 40), (number % 256, 0, 0))

    results = predict_each(done.layer, done.module, endless())
    assert len(list(islice(results, 300))) == 300 and len(taken) == 512
    results.close()


@pytest.mark.parametrize("top", [0, -1])
def test_no_breed_at_all_is_refused(done, top):
    with pytest.raises(dogtl.DogtlError, match="top must be at least 1"):
        dogtl.predict(done.layer, done.module, [], top=top)
