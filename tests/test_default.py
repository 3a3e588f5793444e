"""The embedded default gives what README and lessons say, to within some photos."""

from dataclasses import replace

import numpy as np

import dogtl
from dogtl.toy.kennel import LOOK_ALIKES

CORRECT, PHOTOS = 220, 240


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
    assert layer.l2 == 0
    patience = 3 * layer.best_epoch
    losses = dogtl.fit(train, valid, patience=patience).history["valid_loss"]
    assert losses[-1] > 1.05 * losses.min()
    accuracies = [
        made.history["valid_accuracy"][made.best_epoch - 1]
        for made in (dogtl.fit(train, valid, seed=seed) for seed in range(3))
    ]
    assert np.ptp(accuracies) <= 2.5 / len(valid.labels)


def test_an_unknown_breed_is_named_as_lesson_5_says(kennel):
    def without(split):
        made = kennel.bottlenecks[split]
        keep = made.labels != 0
        return replace(made, features=made.features[keep], labels=made.labels[keep])

    unaware, test = (
        dogtl.fit(without("train"), without("valid")),
        kennel.bottlenecks["test"],
    )
    probabilities = unaware.probabilities(test.features[test.labels == 0])
    poodle = test.breeds.index("010.Poodle")
    assert test.breeds[0] == "001.Afghan_hound"
    assert (probabilities.argmax(axis=1) == poodle).mean() > 0.6


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
    assert wrong[-PHOTOS // 6 :].sum() >= 0.75 * wrong.sum()


def test_abstaining_is_as_lesson_4_says(kennel):
    valid = dogtl.evaluate(kennel.layer, kennel.bottlenecks["valid"])
    order = np.argsort(-valid.confidences, kind="stable")
    shares = np.cumsum(valid.correct[order]) / np.arange(1, len(order) + 1)
    threshold = valid.confidences[order[np.flatnonzero(shares >= 0.99).max()]]
    answered = kennel.evaluation.confidences >= threshold
    assert 0.8 < answered.mean() < 0.97
    assert 0.94 < kennel.evaluation.correct[answered].mean() < 0.98


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
