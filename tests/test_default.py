"""The embedded default gives what README and lessons say, to within some photos."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import all_steps
from PIL import Image, ImageOps

import dogtl
from dogtl.toy.kennel import BREEDS, LOOK_ALIKES, WHITE

CORRECT, PHOTOS = 223, 240
LESSON_5 = Path(__file__).parent.parent / "notebooks" / "05_name_that_breed.ipynb"


def are_alike(breed: str, prediction: str) -> bool:
    """Whether two breeds were drawn as look-alikes."""
    pair = {name.partition(".")[2] for name in (breed, prediction)}
    return pair in map(set, LOOK_ALIKES)


def bins_of(confidences: np.ndarray) -> list[np.ndarray]:
    """The predictions in six bins of equally many, the least confident first."""
    return np.array_split(np.argsort(confidences, kind="stable"), 6)


def calibration_error(confidences: np.ndarray, correct: np.ndarray) -> float:
    """The expected calibration error, in six bins of equally many predictions."""
    bins = bins_of(confidences)
    gaps = [abs(correct[rows].mean() - confidences[rows].mean()) for rows in bins]
    return np.average(gaps, weights=[len(rows) for rows in bins])


@pytest.fixture(params=[0, 1, 2])
def seed(request, thorough):
    """Of what is drawn again; only the first one unless --all."""
    if request.param and not thorough:
        pytest.skip("other seeds take long: --all")
    return request.param


def test_accuracy_on_the_kennel(kennel):
    evaluation = kennel.evaluation
    assert len(evaluation.labels) == PHOTOS
    assert not any(kennel.squares.skipped.values())
    assert abs(int(evaluation.correct.sum()) - CORRECT) <= 3
    assert np.isclose(evaluation.top5, 1, atol=0.01)


def at_best(layer, what):
    """What a layer's history says about the epoch whose weights were kept."""
    return layer.history[what][layer.best_epoch - 1]


def part_of(data, rows):
    """Some rows of bottlenecks."""
    return replace(data, features=data.features[rows], labels=data.labels[rows])


def test_steps_downhill_are_as_lesson_3_says(kennel):
    train, rng = kennel.bottlenecks["train"], np.random.default_rng(0)
    start = np.vstack([rng.normal(0, 0.01, (256, 12)), np.zeros(12)])

    def descend(rate, steps):
        weights, losses = start, []
        for _ in range(steps + 1):
            made = dogtl.loss_and_gradient(weights, train.features, train.labels)
            losses.append(made[0])
            weights = weights - rate * made[1]
        return losses

    far = [descend(rate, 1)[1] for rate in (0, 0.01, 0.1, 1, 10)]
    assert 1.01 * np.log(12) < far[0] < 1.1 * np.log(12)
    assert far[:4] == sorted(far[:4], reverse=True) and far[3] < 0.8 * far[0]
    assert far[4] > 1.5 * far[0]
    assert 7 < (far[0] - far[2]) / (far[0] - far[1]) < 10  # ten times the rate
    slow, usual, fast = (descend(rate, 30) for rate in (0.01, 0.1, 1))
    assert usual == sorted(usual, reverse=True) and slow[30] > 2 * usual[30]
    assert fast[1] < fast[0] and max(fast) > 2 * fast[0]  # it leaps up on its way


def test_keras_comes_out_alike_as_lesson_3_says(kennel):
    import keras

    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    mean, variance = train.features.mean(axis=0), train.features.var(axis=0)
    spread = np.sqrt(variance + 0.1 * variance.mean())
    inputs, unseen = ((data.features - mean) / spread for data in (train, valid))

    def losses(rate, seed=0):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.layers.Dense(12)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
        stop = keras.callbacks.EarlyStopping(patience=10)
        how = {"epochs": 100, "callbacks": [stop], "verbose": 0}
        judge = (unseen, valid.labels)
        run = model.fit(inputs, train.labels, validation_data=judge, **how)
        return run.history["val_loss"]

    usual = losses(0.005)
    assert len(usual) < 30  # it stopped early
    solved = at_best(dogtl.fit(train, valid), "valid_loss")
    assert abs(min(usual) - solved) < 0.04
    assert abs(min(losses(0.005, seed=1)) - min(usual)) < 0.04
    slow = losses(0.001)
    assert abs(min(slow) - min(usual)) < 0.04
    assert np.argmin(slow) > 5 * np.argmin(usual)
    assert min(losses(0.05)) > 1.4 * min(usual) and min(losses(0.5)) > 5 * min(usual)


def test_overfitting_is_as_lesson_3_says(kennel):
    curves = dogtl.fit(kennel.bottlenecks["train"], kennel.bottlenecks["valid"]).history
    losses, best = curves["valid_loss"], int(np.argmin(curves["valid_loss"]))
    assert best + 3 < len(losses) <= best + 21
    assert losses[-1] > 2 * losses[best] and curves["train_loss"][-1] < 0.001
    accuracies = curves["valid_accuracy"]
    assert 0.005 < accuracies[best] - accuracies[-1] < 0.09


def test_random_labels_are_memorized_as_lesson_3_says(kennel):
    train, rng = kennel.bottlenecks["train"], np.random.default_rng(0)
    for count in (100, 400):
        labels = rng.integers(0, 12, count)
        data = replace(train, features=train.features[:count], labels=labels)
        assert dogtl.fit(data, data).history["train_accuracy"].max() > 0.98


def test_penalties_are_as_lesson_3_says(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    penalties = [0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    until_the_end, stopped = (
        [dogtl.fit(train, valid, l2, patience) for l2 in penalties]
        for patience in (1000, dogtl.linear.PATIENCE)
    )
    ends = [layer.history["valid_loss"][-1] for layer in until_the_end]
    assert all(layer.stopped_early for layer in until_the_end)  # by no limit
    assert np.argmin(ends) in (2, 3) and ends[2] < ends[1]
    assert ends[0] > 2 * min(ends) and ends[5] > ends[4] > 1.3 * min(ends)
    lowest = [at_best(layer, "valid_loss") for layer in stopped]
    assert max(lowest[:3]) < 1.03 * min(lowest)  # the weak ones tie
    assert lowest[5] > 2 * min(lowest) and 1.5 < lowest[4] / lowest[0] < 2.2
    assert lowest[0] < 0.97 * min(ends)  # early stopping alone, or a penalty alone
    sizes = [np.abs(layer.kernel).mean() for layer in stopped]
    grown = np.abs(dogtl.fit(train, train, 0.0, 1000).kernel).mean()
    assert sizes[2] < 1.01 * sizes[0] and sizes[4] < 0.8 * sizes[0]
    assert grown > 2 * sizes[0]
    accuracies = [120 * at_best(layer, "valid_accuracy") for layer in stopped]
    assert np.ptp(accuracies[:5]) < 5.5 and accuracies[5] < min(accuracies[:5]) - 2.5


def test_the_kept_layer_is_as_lesson_3_says(kennel):
    layer, curves = kennel.layer, kennel.layer.history
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    assert layer.stopped_early and 0 < layer.l2 < 0.01
    losses, best = curves["valid_loss"], layer.best_epoch - 1
    assert 2 < best < 15 and curves["train_loss"][-1] < 0.05
    assert min(curves["train_accuracy"][-3:]) > 0.99
    assert curves["train_accuracy"][best] > curves["valid_accuracy"][best] + 0.01
    assert curves["train_loss"][best] < 0.7 * losses[best]
    climb = losses[best:].max() - losses[best]
    without = dogtl.fit(train, valid).history["valid_loss"]
    assert 0 < climb < 0.5 * (without[-1] - without.min())
    assert layer.probabilities(kennel.bottlenecks["test"].features[0])[0] > 0.95


def test_the_learning_curve_is_as_lesson_3_says(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    order = np.random.default_rng(0).permutation(len(train.labels))
    correct, counts = [], [48, 96, 192, 336, 480]
    for count in counts:
        part = part_of(train, np.sort(order[:count]))
        layer = dogtl.fit(part, valid, kennel.layer.l2)
        assert at_best(layer, "train_accuracy") > 0.97
        correct.append(120 * at_best(layer, "valid_accuracy"))
    assert correct[-1] > correct[0] + 4.5
    first, *later = np.diff(correct)
    assert 1.5 < first < 8 and min(later) > -1.5 and max(later) < 3.5
    low, high = dogtl.wilson_interval(round(correct[-1]), 120)
    assert max(first, *later) < 120 * (high - low)  # the bars are longer than a step


def test_linear_regression_is_as_lesson_3_says(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    known, unseen = (
        np.hstack([data.features, np.ones((len(data.labels), 1))])
        for data in (train, valid)
    )
    targets = np.eye(12)[train.labels]

    def outputs(penalty):
        square = known.T @ known + penalty * np.eye(known.shape[1])
        return unseen @ np.linalg.solve(square, known.T @ targets)

    def correct(scores):
        return int((scores.argmax(axis=1) == valid.labels).sum())

    plain = outputs(0)
    assert plain.min() < -0.2 and plain.max() > 1.1
    np.testing.assert_allclose(plain.sum(axis=1), 1, atol=1e-3)
    by_softmax = correct(kennel.layer.logits(valid.features))
    assert by_softmax - 9 < correct(plain) < by_softmax + 1
    some = [correct(outputs(c)) for c in (0.001, 0.1, 1, 10, 100)]
    assert abs(max(some) - correct(plain)) <= 4
    assert correct(outputs(10_000)) < correct(plain) - 2


def without_a_breed(kennel, label):
    """What a layer that never saw a breed calls its test photos, and the median
    confidence of the layer that knows it and of this one."""
    seen = [
        part_of(data, data.labels != label)
        for split, data in kennel.bottlenecks.items()
        if split != "test"
    ]
    test, unaware = kennel.bottlenecks["test"], dogtl.fit(*seen, kennel.layer.l2)
    features = test.features[test.labels == label]
    known, guessed = (
        layer.probabilities(features) for layer in (kennel.layer, unaware)
    )
    names = [test.breeds[i].partition(".")[2] for i in guessed.argmax(axis=1)]
    return names, *(np.median(some.max(axis=1)) for some in (known, guessed))


def to_training(kennel, features):
    """The distance of some bottlenecks to each one of the training split."""
    known = kennel.bottlenecks["train"].features
    return np.array([np.linalg.norm(known - one, axis=1) for one in features])


@pytest.fixture(scope="module")
def siblings(kennel):
    """All steps on the kennel with each toy module, by its name."""
    others = ("toy_small", "toy_young", "toy_random")
    made = {name: all_steps(module=name, home=kennel.home) for name in others}
    return {"toy": kennel, **made}


@pytest.fixture(scope="module")
def strange(kennel):
    """The squares that lesson 5 shows: blank, noise, stripes, beach."""
    side, rng = kennel.module.size, np.random.default_rng(0)
    noise = rng.integers(0, 256, (side, side, 3))
    stripes = np.broadcast_to(np.arange(side)[:, None] // 8 % 2 * 255, (side, side, 3))
    box = (-side, 0, -side / 2, 0.8 * side)
    beach = dogtl.toy.scenery.behind("beach", (side, side), box, rng)
    pictures = np.stack([np.full((side, side, 3), 128), noise, stripes, beach])
    return pictures.astype(np.float32) / 255


def test_padding_costs_accuracy_as_lesson_5_says(kennel):
    size = (kennel.module.size, kennel.module.size)
    test, some = kennel.bottlenecks["test"], np.linspace(0, PHOTOS - 1, 60).astype(int)
    padded = [ImageOps.pad(dogtl.read_photo(test.paths[i]), size) for i in some]
    features = kennel.module(np.stack(padded).astype(np.float32) / 255)
    correct = kennel.layer.logits(features).argmax(axis=1) == test.labels[some]
    assert 0.55 < correct.mean() < kennel.evaluation.correct[some].mean() - 0.1


def test_an_unknown_breed_is_named_as_lesson_5_says(kennel):
    muzzles = {breed: coats[0].muzzle for breed, coats in BREEDS.items()}
    afghan, *longest = sorted(muzzles, key=muzzles.get, reverse=True)[:4]
    assert kennel.layer.breeds[0] == f"001.{afghan}" == "001.Afghan_hound"
    names, known, guessed = without_a_breed(kennel, 0)
    assert np.mean([name in longest for name in names]) > 0.7
    assert guessed < known - 0.2


def test_an_unknown_look_alike_is_named_as_lesson_5_says(kennel):
    assert kennel.layer.breeds[4] == "005.Cardigan_welsh_corgi"
    names, known, guessed = without_a_breed(kennel, 4)
    assert names.count("Pembroke_welsh_corgi") >= len(names) - 3
    assert guessed > known - 0.03


def test_pictures_without_a_dog_are_as_lesson_5_says(kennel, strange):
    confidences = kennel.layer.probabilities(kennel.module(strange)).max(axis=1)
    of_dogs, correct = kennel.evaluation.confidences, kennel.evaluation.correct
    assert min(confidences) > 0.4 and max(confidences) < np.median(of_dogs) - 0.1
    assert max(confidences) < 0.9  # so the first threshold refuses all four
    refused = of_dogs <= max(confidences)
    assert refused.mean() > 0.08 and (refused & correct).sum() >= 10


def test_abstaining_is_as_lesson_5_says(kennel):
    confidences, correct = kennel.evaluation.confidences, kennel.evaluation.correct
    shares = [correct[confidences >= least].mean() for least in (0, 0.5, 0.7, 0.9)]
    assert shares == sorted(shares) and shares[-1] > 0.96
    wrong = ~correct
    assert wrong[confidences < 0.9].sum() > 0.6 * wrong.sum()


def test_strange_pictures_are_far_as_lesson_5_says(kennel, strange):
    made = kennel.module(strange)
    test, valid = (kennel.bottlenecks[split].features for split in ("test", "valid"))
    nearest = to_training(kennel, test).min(axis=1)
    blank, noise, stripes, beach = to_training(kennel, made).min(axis=1)
    assert min(blank, beach) > nearest.max()
    assert min(noise, stripes) > 1.5 * max(blank, beach)
    threshold = np.quantile(to_training(kennel, valid).min(axis=1), 0.95)
    assert min(blank, beach) > 1.1 * threshold
    assert 0.02 < (nearest >= threshold).mean() < 0.1
    lengths = np.linalg.norm(made, axis=1)
    usual = np.median(np.linalg.norm(test, axis=1))
    assert max(lengths[[0, 3]]) < 0.5 * usual and min(lengths[1:3]) > 1.2 * usual


def test_another_module_takes_them_for_dogs_as_lesson_5_says(siblings, strange):
    young = siblings["toy_young"]
    nearest = to_training(young, young.bottlenecks["test"].features).min(axis=1)
    blank, _, _, beach = to_training(young, young.module(strange)).min(axis=1)
    assert max(blank, beach) < 0.9 * np.median(nearest)


def test_neighbours_tell_as_lesson_5_says(kennel):
    train, test = kennel.bottlenecks["train"], kennel.bottlenecks["test"]
    apart, evaluation = to_training(kennel, test.features), kennel.evaluation
    five, of_the_last = np.argsort(apart[[0, -1]], kind="stable")[:, :5]
    assert (train.labels[five] == test.labels[0]).all()
    assert test.breeds[test.labels[-1]] == "012.Siberian_husky"
    malamute = test.breeds.index("002.Alaskan_malamute")
    assert evaluation.predictions[-1] == malamute
    assert (train.labels[of_the_last] == malamute).sum() >= 3
    kin = train.labels[apart.argmin(axis=1)]
    agree = kin == evaluation.predictions
    assert evaluation.correct[~agree].sum() > (kin == test.labels)[~agree].sum() + 3
    assert evaluation.correct[~agree].mean() < evaluation.correct[agree].mean() - 0.1


def test_an_upload_is_shown_or_the_reason_said_as_in_lesson_5(kennel, capsys):
    pytest.importorskip("ipywidgets", reason="the extra `notebooks` brings it")
    shown, train = [], kennel.bottlenecks["train"]
    names = vars(kennel) | {"dogtl": dogtl, "np": np, "Path": Path, "train": train}
    names |= {"figures": dogtl.figures, "display": lambda *more: shown.extend(more)}
    for cell in json.loads(LESSON_5.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if re.search("^def (distances|resembling|examine|show|respond)", source, re.M):
            exec(source, names)
    photo = kennel.photos.paths["test"][0].read_bytes()
    for name, content in (("dog.jpg", photo), ("notes.txt", b"text")):
        about = {"size": len(content), "type": "", "last_modified": datetime.now(UTC)}
        names["button"].value = ({"name": name, "content": content, **about},)
    neighbours, bars = shown
    assert "this photo; neighbour 1 Afghan hound;" in neighbours.alt
    assert bars.alt.endswith("breed Afghan hound.")
    printed = capsys.readouterr().out
    assert "notes.txt: cannot identify image file\n" in printed
    assert "Traceback" not in printed


def test_training_and_choosing_flatter_as_lesson_4_says(kennel):
    of = {
        split: dogtl.evaluate(kennel.layer, data)
        for split, data in kennel.bottlenecks.items()
    }
    for other in (of["valid"], of["test"]):
        assert of["train"].accuracy > other.accuracy + 0.01
        low, high = other.interval
        assert high - low > 0.04  # choosing the best of six gives 0.033


def test_mistakes_are_as_lesson_4_says(kennel):
    evaluation = kennel.evaluation
    names = [name.partition(".")[2] for name in evaluation.breeds]
    husky, malamute = names.index("Siberian_husky"), names.index("Alaskan_malamute")
    most, every = (dogtl.confused_pairs(evaluation, top) for top in (1, 200))
    assert are_alike(most["breed"][0], most["prediction"][0])
    assert evaluation.confusion[husky, malamute] >= 2
    assert evaluation.confusion[malamute, husky] <= 1
    counts = np.bincount(kennel.bottlenecks["train"].labels)
    assert counts[malamute] > counts[husky]
    kinds = zip(every["breed"], every["prediction"], every["photos"], strict=True)
    alike = sum(n for *pair, n in kinds if are_alike(*pair))
    assert sum(every["photos"]) == (~evaluation.correct).sum()
    assert alike > 0.2 * sum(every["photos"])  # one in twenty if all were as frequent
    errors = dogtl.most_confident_errors(evaluation)
    pairs = list(zip(errors["breed"], errors["prediction"], strict=True))
    assert 0.3 < np.mean([are_alike(*pair) for pair in pairs]) < 0.75


def test_the_worst_breed_is_harder_as_lesson_4_says(kennel):
    table, rng = dogtl.per_breed(kennel.evaluation), np.random.default_rng(0)
    worst = int(np.argmin(table["accuracy"]))
    assert table["breed"][worst] == "012.Siberian_husky"
    assert table["accuracy"][worst] < 0.75
    n, accuracy = np.array(table["photos"]), kennel.evaluation.accuracy
    tests = rng.binomial(n, accuracy, (1000, len(n)))
    bounds = np.array([list(map(dogtl.wilson_interval, k, n)) for k in tests])
    lowest = bounds[..., 1].min(axis=1)
    assert (lowest < accuracy).mean() > 0.2
    assert (lowest <= min(table["high"])).mean() < 0.05


def test_the_bootstrap_agrees_as_lesson_4_says(kennel):
    correct, rng = kennel.evaluation.correct, np.random.default_rng(0)
    shares = rng.choice(correct, (1000, len(correct))).mean(axis=1)
    bounds = np.quantile(shares, [0.025, 0.975])
    np.testing.assert_allclose(bounds, kennel.evaluation.interval, atol=0.015)


def test_confidence_tells_as_lesson_4_says(kennel):
    evaluation = kennel.evaluation
    confidences, correct = evaluation.confidences, evaluation.correct
    bins = bins_of(confidences)
    wrong = [int((~correct[rows]).sum()) for rows in bins]
    assert wrong[0] > sum(wrong) / 2
    for rows in bins:
        low, high = dogtl.wilson_interval(int(correct[rows].sum()), len(rows))
        assert low - 0.05 < confidences[rows].mean() < high + 0.05
    for rows in bins[2:]:
        assert confidences[rows].mean() > 0.95 and correct[rows].mean() > 0.93


def test_abstaining_is_as_lesson_4_says(kennel):
    valid = dogtl.evaluate(kennel.layer, kennel.bottlenecks["valid"])
    order = np.argsort(-valid.confidences, kind="stable")
    shares = np.cumsum(valid.correct[order]) / np.arange(1, len(order) + 1)
    threshold = valid.confidences[order[np.flatnonzero(shares >= 0.99).max()]]
    answered = kennel.evaluation.confidences >= threshold
    assert 0.7 < answered.mean() < 0.97
    assert 0.93 < kennel.evaluation.correct[answered].mean() < 0.99


def test_a_temperature_takes_a_factor_back_as_lesson_4_says(kennel):
    valid, test = kennel.bottlenecks["valid"], kennel.bottlenecks["test"]
    correct = kennel.evaluation.correct
    logits, of_test = (kennel.layer.logits(data.features) for data in (valid, test))
    grid, chosen, errors = np.geomspace(0.2, 10, 400), {}, {}
    for factor in (1, 3):
        losses = [dogtl.cross_entropy(factor * logits / t, valid.labels) for t in grid]
        chosen[factor] = grid[np.argmin(losses)]
        for t in (1, chosen[factor]):
            scaled = dogtl.softmax(factor * of_test / t).max(axis=1)
            errors[factor, t == 1] = calibration_error(scaled, correct)
            if (factor, t) == (3, 1):
                assert scaled.mean() > correct.mean() + 0.02
    assert np.isclose(chosen[3] / chosen[1], 3, rtol=0.03) and 0.5 < chosen[1] < 1
    assert np.isclose(errors[3, False], errors[1, False], atol=0.005)
    rng, confidences = np.random.default_rng(0), kennel.evaluation.confidences
    calibrated = [
        calibration_error(confidences, rng.random(PHOTOS) < confidences)
        for _ in range(1000)
    ]
    assert max(errors[1, True], errors[1, False]) < np.quantile(calibrated, 0.95)


def seen_of(photo):
    """How much of a dog its photo's centre crop keeps, from 0 to 1."""
    mask = dogtl.toy.kennel.draw_one("/".join(photo.parts[-3:]))[1]
    left, top = ((side - min(mask.size)) // 2 for side in mask.size)
    square = mask.crop((left, top, mask.width - left, mask.height - top))
    return np.count_nonzero(square) / np.count_nonzero(mask)


def lost_by(photo):
    with Image.open(photo) as image:
        return 1 - min(image.size) / max(image.size)


def test_the_followed_photo_is_as_lesson_1_says(kennel):
    path = kennel.photos.paths["test"][0]
    photo = dogtl.read_photo(path)
    assert path.stem.startswith("Afghan_hound") and lost_by(path) > 0.1
    mask = np.asarray(dogtl.toy.kennel.draw_one("/".join(path.parts[-3:]))[1])
    y, x = photo.height // 2, photo.width // 2
    assert mask.shape == (photo.height, photo.width)  # it's stored upright
    assert mask[y : y + 32, x : x + 32].all()  # the enlarged patch shows the dog
    assert np.asarray(photo)[y : y + 32, x : x + 32].std(axis=(0, 1)).min() > 3
    small, skip = (min(photo.size) // 5,) * 2, Image.Resampling.NEAREST
    ways = dogtl.make_square(photo, small[0]), ImageOps.fit(photo, small, skip)
    rough = [np.abs(np.diff(np.asarray(way, float), axis=0)).mean() for way in ways]
    assert rough[1] > 1.3 * rough[0]  # skipping leaves speckles and stairs


def test_shares_cut_off_are_as_lesson_1_says(kennel):
    lost = np.array([lost_by(p) for s in kennel.squares.paths.values() for p in s])
    assert lost.max() < 0.345
    columns = [np.abs(lost - share) < 0.006 for share in (0, 1 / 5, 1 / 4, 1 / 3)]
    assert min(column.mean() for column in columns) > 0.15
    rest = ~np.any(columns, axis=0)
    assert rest.sum() < 30 and (lost[rest] > 0.29).all()  # small ones of 3:2
    assert (lost[lost > 0.29] > 1 / 3).mean() > 0.6


def test_dogs_are_cut_as_lesson_1_says(kennel):
    train = kennel.bottlenecks["train"]
    first = [train.paths[i] for i in np.unique(train.labels, return_index=True)[1]]
    assert sum(seen_of(photo) < 0.999 for photo in first) >= 2  # a nose, a tail
    photos = [photo for split in kennel.squares.paths.values() for photo in split]
    most = sorted(photos, key=lost_by)[-3:]
    assert max(map(seen_of, most)) > 0.99  # a large cut took only background


def test_odd_files_are_as_lesson_1_says(kennel):
    pairs = {}
    for photo in (p for split in kennel.squares.paths.values() for p in split):
        with Image.open(photo) as image:
            kind = image.mode, image.getexif().get(0x0112, 1)
            if kind not in pairs:
                pairs[kind] = np.asarray(image), np.asarray(dogtl.read_photo(photo))
    assert {orientation for _, orientation in pairs} == {1, 6, 8}
    assert {mode for mode, _ in pairs} == {"RGB", "L", "CMYK"}
    grey, as_read = pairs["L", 1]
    assert (as_read == grey[..., None]).all()
    ink, as_read = pairs["CMYK", 1]
    assert np.corrcoef(ink[..., :3].ravel(), as_read.ravel())[0, 1] < -0.9


def similarity(known, new):
    """The cosine similarity of lesson 2, the average subtracted."""
    known, new = known - known.mean(axis=0), new - known.mean(axis=0)
    lengths = [np.linalg.norm(one, axis=1, keepdims=True) for one in (new, known)]
    return (new / lengths[0]) @ (known / lengths[1]).T


def squares_of(kennel, split, side=None):
    """The squares of a split as floats from 0 to 255, shrunk to a side if given."""
    opened = [Image.open(file) for file in kennel.squares.files[split]]
    side = (side or kennel.module.size,) * 2
    return np.stack([np.asarray(one.resize(side, 1), np.float32) for one in opened])


def test_one_bottleneck_is_as_lesson_2_says(kennel):
    one = kennel.bottlenecks["test"].features[0]
    assert (one < 0.2 * one.max()).mean() > 0.55
    assert (one > 0.5 * one.max()).mean() < 0.15
    assert min(made.features.min() for made in kennel.bottlenecks.values()) >= 0


def test_one_feature_responds_to_hair_as_lesson_2_says(kennel):
    train, breed = kennel.bottlenecks["train"], kennel.bottlenecks["test"].labels[0]
    ours = train.features[train.labels == breed]
    rest = train.features[train.labels != breed]
    apart = (ours.mean(axis=0) - rest.mean(axis=0)) / (rest.std(axis=0) + 1e-6)
    feature = int(apart.argmax())
    assert apart[feature] > 1.08 * np.sort(apart)[-2]  # no close call
    values = train.features[:, feature]
    order = np.argsort(-values, kind="stable")
    assert (train.labels[order[:20]] == breed).all() and (values == 0).sum() >= 6
    others = [i for i in order if train.labels[i] != breed][:6]
    assert values[others].max() < 0.75 * values[order[5]]
    hair = [BREEDS[train.breeds[train.labels[i]].partition(".")[2]] for i in others]
    usual = np.median([coats[0].hair for coats in BREEDS.values()])
    assert sum(coats[0].hair > usual for coats in hair) >= 5


def test_the_map_is_as_lesson_2_says(kennel):
    train = kennel.bottlenecks["train"]
    centred = (train.features - train.features.mean(axis=0)).astype(np.float64)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    assert (lengths[:2] ** 2).sum() < 0.45 * (lengths**2).sum()
    places = centred @ axes[:2].T
    white = [
        min(coats[0].bib, coats[0].socks) > 0.5 and coats[0].light == WHITE
        for coats in BREEDS.values()
    ]
    at_right = np.array(white)[train.labels]
    assert sum(white) == 6 and (places[at_right, 0] > 1).mean() > 0.95
    assert (places[~at_right, 0] < 1).mean() > 0.9
    pugs = train.labels == train.breeds.index("011.Pug")
    middle = places[pugs].mean(axis=0)
    near = np.linalg.norm(places - middle, axis=1) < 3
    assert pugs[near].mean() > 0.8


def test_neighbours_are_as_lesson_2_says(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    alike = similarity(train.features, valid.features)
    tiny = [squares_of(kennel, split, 32) for split in ("train", "valid")]
    pixels = similarity(*(one.reshape(len(one), -1) for one in tiny)).argmax(axis=1)
    nearest = alike.argmax(axis=1)
    by_pixels, by_features = (
        (train.labels[rows] == valid.labels).mean() for rows in (pixels, nearest)
    )
    assert 0.13 < by_pixels < 0.35 and by_features > 0.78
    shown = np.linspace(0, len(valid.labels) - 1, 6).astype(int)
    of_breed = [
        (train.labels[rows[shown]] == valid.labels[shown]).sum()
        for rows in (pixels, nearest)
    ]
    assert of_breed[1] > of_breed[0]
    skies = [one[:, 2:5].mean(axis=(1, 2)) for one in tiny]
    change = [np.abs(skies[0][rows] - skies[1]).mean() for rows in (pixels, nearest)]
    assert change[0] < 0.6 * change[1]  # background and light
    plain = np.linalg.norm(valid.features[:, None] - train.features, axis=2)
    euclidean = (train.labels[plain.argmin(axis=1)] == valid.labels).mean()
    assert abs(euclidean - by_features) < 0.06


def test_few_features_do_most_as_lesson_2_says(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]

    def share(some):
        rows = similarity(train.features[:, some], valid.features[:, some])
        return (train.labels[rows.argmax(axis=1)] == valid.labels).mean()

    draws = [np.random.default_rng(seed).permutation(256) for seed in range(8)]
    shares = [share(draw[:16]) for draw in draws]
    whole = share(draws[0])
    assert np.mean(shares) > 0.8 * whole and shares[0] > 0.8 * whole
    assert np.mean([share(draw[:4]) for draw in draws]) < 0.6 * whole


def test_forgetting_to_divide_is_as_lesson_2_says(kennel):
    train, valid = kennel.bottlenecks["train"], kennel.bottlenecks["valid"]
    some = np.linspace(0, len(train.labels) - 1, 240).astype(int)
    wrong = [
        np.concatenate([kennel.module(batch) for batch in np.array_split(pixels, 8)])
        for pixels in (squares_of(kennel, "train")[some], squares_of(kennel, "valid"))
    ]

    def share(known, new):
        rows = similarity(known, new).argmax(axis=1)
        return (train.labels[some][rows] == valid.labels).mean()

    right = share(train.features[some], valid.features)
    assert share(train.features[some], wrong[1]) < 0.2 < share(*wrong) < right / 2


def test_a_mirrored_dog_stays_near_as_lesson_2_says(kennel, siblings):
    labels, pixels = kennel.squares.labels["test"], squares_of(kennel, "test") / 255
    one_breed = labels[:, None] == labels
    np.fill_diagonal(one_breed, False)
    shares = []
    for module in (kennel.module, siblings["toy_random"].module):
        features, mirrored = module(pixels), module(pixels[:, :, ::-1])
        apart = np.linalg.norm(features[:, None] - features, axis=-1)[one_breed]
        shares.append(np.linalg.norm(mirrored - features, axis=1).mean() / apart.mean())
    assert shares[1] < 0.8 * shares[0] and shares[0] < 0.45


def test_squares_as_jpeg_predict_as_lossless_ones_do(kennel):
    paths, size = kennel.squares.paths["test"], kennel.module.size
    squares = [dogtl.make_square(dogtl.read_photo(path), size) for path in paths]
    features = kennel.module(np.stack(squares).astype(np.float32) / 255)
    lossless = kennel.layer.probabilities(features).argmax(axis=1)
    assert (lossless != kennel.evaluation.predictions).mean() <= 0.03


def test_modules_rank_as_lesson_6_says(siblings):
    toy, small, young, random = (s.evaluation.accuracy for s in siblings.values())
    assert toy > small + 0.03 and small > young + 0.15 and young > random + 0.15
    assert toy - random > random + 0.2  # most of the accuracy was learned
    assert siblings["toy_random"].evaluation.interval[0] > 1.5 / len(BREEDS)


def test_the_tests_reject_as_lesson_6_says(siblings):
    toy, *others = (one.evaluation.correct for one in siblings.values())
    p_values = sorted(dogtl.mcnemar_test(toy, other) for other in others)
    assert max(np.multiply(p_values, [3, 2, 1])) < 0.05  # by Holm


def test_random_weights_hardly_beat_pixels_as_lesson_6_says(kennel, siblings):
    pixels = {}
    for split, made in kennel.bottlenecks.items():
        files = kennel.squares.files[split]
        tiny = [Image.open(file).resize((32, 32)) for file in files]
        flat = np.stack(tiny).reshape(len(tiny), -1).astype(np.float32) / 255
        pixels[split] = replace(made, features=flat)
    layer = dogtl.fit(pixels["train"], pixels["valid"])
    alone = dogtl.evaluate(layer, pixels["test"])
    random = siblings["toy_random"].evaluation
    assert abs(alone.accuracy - random.accuracy) < 0.08
    assert dogtl.mcnemar_test(alone.correct, random.correct) > 0.05


def test_two_modules_side_by_side_help_little_as_lesson_6_says(siblings):
    toy, young = (siblings[name].bottlenecks for name in ("toy", "toy_young"))
    both = {}
    for split in ("train", "valid"):
        features = np.hstack([toy[split].features, young[split].features])
        both[split] = replace(toy[split], features=features)
    layers = [dogtl.fit(one["train"], one["valid"]) for one in (toy, both)]
    shares = [one.history["valid_accuracy"][one.best_epoch - 1] for one in layers]
    assert abs(shares[0] - shares[1]) * len(toy["valid"].labels) < 2.5


def few(data, count, seed):
    """So many training photos of each breed, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(data.labels))
    rows = [order[data.labels[order] == k][:count] for k in range(len(BREEDS))]
    return part_of(data, np.concatenate(rows))


def correct_of(data, train):
    """How many test photos are correct with a layer that learned from these photos."""
    layer = dogtl.fit(train, data["valid"], 0.01)
    return int(dogtl.evaluate(layer, data["test"]).correct.sum())


def test_one_photo_beats_all_without_transfer_as_lesson_7_says(kennel, siblings):
    made, tiny = kennel.bottlenecks, {}
    for split, data in made.items():
        pixels = squares_of(kennel, split, 16).reshape(len(data.labels), -1) / 255
        tiny[split] = replace(data, features=pixels.astype(np.float32))
    ones = [correct_of(made, few(made["train"], 1, seed)) for seed in range(3)]
    low, _ = dogtl.wilson_interval(min(ones), PHOTOS)
    for others in (siblings["toy_random"].bottlenecks, tiny):
        correct = correct_of(others, others["train"])
        assert low > dogtl.wilson_interval(correct, PHOTOS)[1] + 0.1
    shuffled = np.random.default_rng(0).permutation(made["train"].labels)
    assert correct_of(made, replace(made["train"], labels=shuffled)) < 0.2 * PHOTOS


def drawn_again(paths, changes, seed=0):
    """The squares of photos drawn again with changes, and their masks, as arrays."""
    pairs = [
        dogtl.toy.variations.redraw(path, seed=seed, **change)
        for path, change in zip(paths, changes, strict=True)
    ]
    squares = [[np.asarray(dogtl.make_square(i, 112)) for i in pair] for pair in pairs]
    images, masks = map(np.stack, zip(*squares, strict=True))
    return images / np.float32(255), masks / np.float32(255)


def share_on_dog(image, mask, network, layer):
    """The share of a photo's occlusion map that falls on the dog."""
    batch = np.repeat(image[None], 50, axis=0)
    for cell in range(49):
        i, j = 16 * (cell // 7), 16 * (cell % 7)
        batch[cell + 1, i : i + 16, j : j + 16] = 0.6
    logits = layer.logits(network(batch))
    log_p = logits[:, logits[0].argmax()] - np.logaddexp.reduce(logits, axis=1)
    heat = (log_p[0] - log_p[1:]).clip(0)
    return heat @ mask.reshape(7, 16, 7, 16).mean(axis=(1, 3)).ravel() / heat.sum()


def test_the_module_looks_at_the_dog_as_lesson_7_says(kennel, siblings, seed):
    photos = dogtl.toy.kennel.photo_list(seed)[-PHOTOS::20]
    images, masks = drawn_again([p.path for p in photos], [{}] * len(photos), seed)
    random = siblings["toy_random"]
    made = random.bottlenecks
    untrained = random.module, dogtl.fit(made["train"], made["valid"], 0.01)

    def mean_share(*task):
        pairs = zip(images, masks, strict=True)
        return np.mean([share_on_dog(*pair, *task) for pair in pairs])

    trained = mean_share(kennel.module, kennel.layer)
    assert trained > masks.mean() + 0.25 and trained > mean_share(*untrained) + 0.15


def test_the_coat_counts_and_the_background_does_not_as_lesson_7_says(kennel):
    test, rng = kennel.bottlenecks["test"], np.random.default_rng(0)
    dogs = [i for k in range(len(BREEDS)) for i in np.flatnonzero(test.labels == k)[:2]]
    coats, poses = list(BREEDS), dogtl.toy.brush.sample_pose

    def changed(changes):
        images, _ = drawn_again([test.paths[i] for i in dogs], changes)
        answers = kennel.layer.logits(kennel.module(images)).argmax(axis=1)
        return (answers != kennel.evaluation.predictions[dogs]).sum()

    assert changed([{}] * 24) <= 1
    assert changed([{"scene": "snow"}] * 24) <= 4
    assert changed([{"pose": poses(rng)} for _ in dogs]) <= 6
    assert changed([{"coat": coats[(test.labels[i] + 5) % 12]} for i in dogs]) >= 12


@pytest.fixture(scope="module")
def network(kennel):
    """The toy module as a Keras network, as lesson 7 builds it."""
    saved = dogtl.import_tensorflow().saved_model.load(str(kennel.module.folder))
    network = dogtl.toy.pretrain.network()
    for mine, trained in zip(network.variables, saved.variables, strict=True):
        mine.assign(trained)
    return network


@pytest.fixture(scope="module")
def halfway(kennel, network):
    """Features from half-way through it, as a function; and those of the kennel."""
    from keras import Model, layers

    middle = layers.GlobalAveragePooling2D()(network.layers[17].output)
    model = Model(network.input, middle)

    def features_of(images):
        return model.predict(images, verbose=0, batch_size=32)

    made = {}
    for split, data in kennel.bottlenecks.items():
        features = features_of(squares_of(kennel, split) / np.float32(255))
        made[split] = replace(data, features=features)
    return features_of, made


def test_the_keras_network_is_the_module_as_lesson_7_says(kennel, network):
    images = squares_of(kennel, "test")[:8] / np.float32(255)
    expected = kennel.bottlenecks["test"].features[:8]
    found = network(images, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_planted_shortcut_costs_accuracy_as_lesson_7_says(kennel, halfway, seed):
    (features_of, fair), pug, biased = halfway, 10, {}
    for split, data in fair.items():
        paths = [p for p in data.paths if p.parent.name == "011.Pug"]
        beach, _ = drawn_again(paths, [{"scene": "beach"}] * len(paths), seed)
        features = data.features.copy()
        features[data.labels == pug] = features_of(beach)
        biased[split] = replace(data, features=features)
    others = [scene for scene in dogtl.toy.scenery.SCENES if scene != "beach"]
    away, _ = drawn_again(paths, [{"scene": others[i % 7]} for i in range(20)], seed)
    known = []
    for data in (fair, biased):
        layer = dogtl.fit(data["train"], data["valid"], 1e-3)
        for rows in (features_of(beach), features_of(away)):
            known.append((layer.logits(rows).argmax(axis=1) == pug).sum())
    _, fair_away, biased_there, biased_away = known
    assert biased_there >= 15 and biased_away <= biased_there - 5
    assert biased_away <= fair_away - 3


def test_leaked_photos_are_nearer_than_others_as_lesson_7_says(kennel):
    train, valid, test = kennel.bottlenecks.values()

    def nearest(features):
        gaps = [np.linalg.norm(train.features - row, axis=1).min() for row in features]
        return np.array(gaps)

    again = []
    for square in squares_of(kennel, "train")[::10]:
        buffer = io.BytesIO()
        Image.fromarray(square.astype(np.uint8)).save(buffer, "JPEG", quality=40)
        again.append(dogtl.read_square(buffer))
    limit = nearest(valid.features).min()
    assert (nearest(kennel.module(np.stack(again) / 255)) < limit).mean() > 0.85
    assert (nearest(test.features) < limit).mean() < 0.05
