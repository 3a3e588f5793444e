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


def numbers(results) -> np.ndarray:
    """The probabilities, in the order of the breeds' names."""
    best = [sorted(one["predictions"], key=lambda p: p["breed"]) for one in results]
    return np.array([[p["probability"] for p in one] for one in best])


def test_batches_give_what_one_at_a_time_gives(done, photos):
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    asked = [*paths[:5], "no.jpg", *paths[5:]]
    together = dogtl.predict(done.layer, done.module, asked)
    alone = [dogtl.predict(done.layer, done.module, path)[0] for path in asked]
    assert [one["photo"] for one in together] == [*map(str, asked)]
    assert together[5] == alone[5] and "error" in alone[5]
    del together[5], alone[5]
    np.testing.assert_allclose(numbers(together), numbers(alone), atol=1e-5)


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
    np.testing.assert_allclose(*map(numbers, (results[:1], results[2:3])), atol=1e-6)
    np.testing.assert_allclose(*map(numbers, (results[1:2], [single])), atol=1e-5)
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
    with pytest.raises(dogtl.DogtlError, match="ask for 1 or more"):
        dogtl.predict(done.layer, done.module, [], top=top)
