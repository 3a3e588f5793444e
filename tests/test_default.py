"""The embedded default gives what README and lessons say, to within some photos."""

from dataclasses import replace

import numpy as np

import dogtl
from dogtl.toy.kennel import LOOK_ALIKES

CORRECT, PHOTOS = 221, 240


def are_alike(breed: str, prediction: str) -> bool:
    """Whether two breeds were drawn as look-alikes."""
    pair = {name.partition(".")[2] for name in (breed, prediction)}
    return pair in map(set, LOOK_ALIKES)


def test_accuracy_on_the_kennel(kennel):
    evaluation = kennel.evaluation
    assert len(evaluation.labels) == PHOTOS
    assert not any(kennel.squares.skipped.values())
    assert abs(int(evaluation.correct.sum()) - CORRECT) <= 3
    assert np.isclose(evaluation.top5, 1, atol=0.01)


def test_training_is_as_lesson_3_says(kennel):
    layer, best = kennel.layer, kennel.layer.best_epoch - 1
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    assert layer.history["train_accuracy"][best] > layer.history["valid_accuracy"][best]
    assert layer.stopped_early and 0 < layer.l2 < max(dogtl.linear.L2S)
    for l2 in (0.0, max(dogtl.linear.L2S)):
        losses = dogtl.fit(train, valid, l2).history["valid_loss"]
        assert losses.min() > 1.02 * layer.history["valid_loss"][best]
    without_penalty = dogtl.fit(train, valid).history["valid_loss"]
    assert without_penalty[-1] > 1.5 * without_penalty.min()


def test_training_twice_gives_the_same_layer(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    first, second = (dogtl.fit(train, valid, kennel.layer.l2) for _ in range(2))
    assert first.kernel.tobytes() == second.kernel.tobytes()


def test_an_unknown_breed_is_named_as_lesson_5_says(kennel):
    def without(split):
        made = kennel.bottlenecks[split]
        keep = made.labels != 0
        return replace(made, features=made.features[keep], labels=made.labels[keep])

    unaware = dogtl.fit(without("train"), without("valid"), kennel.layer.l2)
    test = kennel.bottlenecks["test"]
    strangers = test.features[test.labels == 0]
    probabilities = unaware.probabilities(strangers)
    poodle = test.breeds.index("010.Poodle")
    assert test.breeds[0] == "001.Afghan_hound"
    assert (probabilities.argmax(axis=1) == poodle).mean() > 0.6
    unsure = np.median(probabilities.max(axis=1))
    assert unsure < np.median(kennel.layer.probabilities(strangers).max(axis=1)) - 0.05


def test_pictures_without_a_dog_are_as_lesson_5_says(kennel):
    column = np.arange(kennel.module.size) // 8 % 2 * 1.0
    pictures = np.full((2, len(column), len(column), 3), 128 / 255, np.float32)
    pictures[1] = column[:, None]
    blank, stripes = kennel.layer.probabilities(kennel.module(pictures)).max(axis=1)
    assert (kennel.evaluation.confidences <= stripes).mean() < 0.15
    assert blank > 0.9 and (kennel.evaluation.confidences <= blank).mean() > 0.15


def test_mistakes_are_as_lesson_4_says(kennel):
    evaluation = kennel.evaluation
    most = dogtl.confused_pairs(evaluation, top=1)
    assert are_alike(most["breed"][0], most["prediction"][0])
    assert most["breed"][0] == "012.Siberian_husky"
    errors = dogtl.most_confident_errors(evaluation)
    pairs = zip(errors["breed"], errors["prediction"], strict=True)
    assert sum(are_alike(*pair) for pair in pairs) > len(errors["breed"]) / 2
    most_confident_first = np.argsort(-evaluation.confidences, kind="stable")
    wrong = ~evaluation.correct[most_confident_first]
    assert wrong[-PHOTOS // 6 :].sum() > wrong.sum() / 2
    worst = dogtl.per_breed(evaluation)
    assert worst["breed"][np.argmin(worst["accuracy"])] == most["breed"][0]
    assert min(worst["accuracy"]) < 0.7


def test_abstaining_is_as_lesson_4_says(kennel):
    valid = dogtl.evaluate(kennel.layer, kennel.bottlenecks["valid"])
    order = np.argsort(-valid.confidences, kind="stable")
    shares = np.cumsum(valid.correct[order]) / np.arange(1, len(order) + 1)
    threshold = valid.confidences[order[np.flatnonzero(shares >= 0.99).max()]]
    answered = kennel.evaluation.confidences >= threshold
    assert 0.8 < answered.mean() < 0.97
    assert 0.93 < kennel.evaluation.correct[answered].mean() < 0.985


def test_the_temperature_is_below_one_as_lesson_4_says(kennel):
    valid = kennel.bottlenecks["valid"]
    logits = kennel.layer.logits(valid.features)
    losses = [dogtl.cross_entropy(logits / t, valid.labels) for t in (0.8, 1, 1.25)]
    assert losses[0] < losses[1] < losses[2]


def test_a_mirrored_dog_stays_near_as_lesson_2_says(kennel):
    test = kennel.bottlenecks["test"]
    pixels = np.stack(
        [dogtl.read_square(file) for file in kennel.squares.files["test"]]
    )
    mirrored = kennel.module(pixels[:, :, ::-1].astype(np.float32) / 255)
    moved = np.linalg.norm(mirrored - test.features, axis=1)
    apart = []
    for label in range(12):
        one = test.features[test.labels == label]
        distances = np.linalg.norm(one[:, None] - one, axis=-1)
        apart.append(distances[np.triu_indices(len(one), 1)])
    assert moved.mean() < np.concatenate(apart).mean() / 2


def test_lessons_1_to_3_hold(kennel):
    """What asserts in the notebooks checked, on the whole kennel."""
    for split, files in kennel.squares.files.items():
        pixels = np.stack([dogtl.read_square(file) for file in files])
        assert pixels.shape[1:] == (112, 112, 3) and pixels.dtype == np.uint8
        made = kennel.bottlenecks[split]
        alone = kennel.module(pixels[:1].astype(np.float32) / 255)
        np.testing.assert_allclose(alone, made.features[:1], rtol=1e-3, atol=1e-4)
    assert kennel.layer.kernel.shape == (256, 12)


def test_squares_as_jpeg_predict_as_lossless_ones_do(kennel):
    paths, size = kennel.squares.paths["test"], kennel.module.size
    squares = [dogtl.make_square(dogtl.read_photo(path), size) for path in paths]
    features = kennel.module(np.stack(squares).astype(np.float32) / 255)
    lossless = kennel.layer.probabilities(features).argmax(axis=1)
    assert (lossless != kennel.evaluation.predictions).mean() <= 0.03
