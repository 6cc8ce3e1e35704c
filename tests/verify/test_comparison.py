"""The parts of the comparison by hand: what is compared, when two answers are the same, and what is told."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explainable_model import Preprocess
from explainable_model.artifact.shapes import SizeRange
from explainable_model.artifact.tolerances import AGREEMENTS, FLIP_SHARE, TOLERANCES
from explainable_model.errors import AgreementWarning, InputError, VerificationError
from explainable_model.verify import parity as comparison
from explainable_model.verify.agreement import (
    NAMED_CLASSES,
    SAME_NUMBER,
    Agreement,
    measure_agreement,
    require_agreement,
)
from explainable_model.verify.calibration import MINIMUM, calibration_images, check_calibration
from explainable_model.verify.network_answer import answer_network, map_difference
from explainable_model.verify.parity import check_parity, correlation
from explainable_model.verify.samples import fresh_images, fresh_input, other_sizes, takes_any_value
from tests.support import shared
from tests.support.nets import TinyResNet, images
from tests.verify.test_verify import altered, made

__all__ = ["made"]  # the fixture


def test_other_inputs_keep_their_meaning() -> None:
    """Ages, categories and token numbers are rows of the example; tables of floats are noise of the same spread."""
    ages = torch.tensor([10.0, 20.0, 30.0])
    assert fresh_input(ages, 4, 0).tolist() == [20.0, 30.0, 10.0, 20.0]
    assert fresh_input(ages, 3, 1).tolist() == [30.0, 10.0, 20.0]
    tokens = torch.tensor([[1, 2], [3, 4]])
    assert fresh_input(tokens, 3, 0).tolist() == [[3, 4], [1, 2], [3, 4]]
    table = torch.tensor([[0.0, 100.0], [0.0, 100.0]])
    made = fresh_input(table, 2, 0)
    assert made.shape == (2, 2)
    assert not bool((made == table).all(1).any())
    assert [takes_any_value(tensor) for tensor in (ages, tokens, table)] == [False, False, True]


def test_fresh_images_keep_their_channels() -> None:
    """They are mirrored and shifted in their last dimension, half as strong, under noise of the example's spread."""
    signal = torch.zeros(1, 2, 4096)
    signal[:, 1] = 10.0
    made = fresh_images(signal, 3, seed=0)
    assert (made[:, 0].mean(1).abs() < 0.5).all()
    assert ((made[:, 1].mean(1) - 5).abs() < 0.5).all()
    assert ((made[:, 0].std(1) - signal.std()).abs() < 0.2).all()
    assert fresh_images(signal, 1, 0, size=[100]).shape == (1, 2, 100)
    ramp = torch.arange(8.0).expand(1, 1, 8, 8).contiguous().double()
    noise = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(2)) * float(ramp.float().std())
    want = 0.5 * ramp[0].float().flip(-1).roll(9, -1) + noise
    torch.testing.assert_close(fresh_images(ramp, 1, seed=2)[0], want.double())


def test_other_sizes() -> None:
    assert other_sizes([32, 40], None) == [[32, 40]]
    allowed = [SizeRange(8, 8), SizeRange(24, 8)]
    assert other_sizes([32, 40], allowed) == [[32, 40], [40, 56], [32, 24]]
    assert other_sizes([32, 30], allowed)[2] == [32, 24], "the smallest that is allowed"
    assert other_sizes([96], [SizeRange(32, 8)]) == [[96], [104], [80]], "a signal has another size each time"
    assert other_sizes([40], [SizeRange(32, 8)])[2] == [32]


def test_two_predictions_are_the_same_where_their_logits_tie() -> None:
    same, tolerance = comparison._same_prediction, TOLERANCES["float32"]
    logits = np.array([0.0, 8.0, 8.0 + 4 * tolerance.logits, 7.9])
    assert same(1, 1, logits, tolerance)
    assert same(1, 2, logits, tolerance)
    assert not same(1, 3, logits, tolerance)
    assert not same(0, 1, logits, tolerance)
    assert not same(1, 0, logits[:1], tolerance), "two sides of one logit"
    assert not same(1, 0, np.ones((2, 3)), tolerance), "the classes of pixels"


def test_correlation_by_hand() -> None:
    ramp = np.arange(6.0).reshape(2, 3)
    assert correlation(ramp, 2 * ramp + 1) == pytest.approx(1.0)
    assert correlation(ramp, -ramp) == pytest.approx(-1.0)
    assert correlation(np.array([1.0, 0, 0]), np.array([0, 1.0, 0])) == pytest.approx(-0.5)
    assert correlation(np.ones(3), np.ones(3)) == 1.0
    assert correlation(np.ones(3), np.zeros(3)) == 0.0
    assert map_difference(np.array([1.0, 3.0]), np.array([2.0, 4.0])) == 0.25
    assert map_difference(np.array([0.5]), np.array([0.0])) == 0.5, "a map of zeros has no unit"


def test_overlays_are_compared_by_their_mean() -> None:
    find, want = comparison._find_overlay_difference, np.full((4, 4, 3), 100, np.uint8)
    assert find(want, want) == ""
    assert find(want + 1, want) == ""
    assert find(want + 2, want) == "the overlay differs by 2.0 levels on average"
    assert find(want - 2, want) == "the overlay differs by 2.0 levels on average"
    assert find(want[:2], want) == "the overlay differs by inf levels on average"


def test_the_worst_image_counts(made: Any) -> None:
    """Of ten images one differs: in its map, in its logits, in the class that is predicted."""

    def last(change: Any) -> Any:
        def changed(logits: Any, idx: Any, cam: Any) -> Any:
            if len(logits) < 7:
                return logits, idx, cam
            logits, idx, cam = logits.copy(), idx.copy(), cam.copy()
            change(logits[4], idx[4:5], cam[4])
            return logits, idx, cam

        return check_parity(*made, altered(made[1], changed))

    def dim(logits: Any, idx: Any, cam: Any) -> None:
        cam[:] = np.where(cam == cam.max(), 0.9, cam)

    def shift(logits: Any, idx: Any, cam: Any) -> None:
        logits[0] += 0.5

    def exchange(logits: Any, idx: Any, cam: Any) -> None:
        idx[:] = (idx + 1) % 5

    parity = last(dim)
    assert (parity.passed, parity.flipped, parity.classes) == (True, 1, 1.0)
    assert parity.cam == pytest.approx(0.1, abs=1e-3)
    assert 0.95 < parity.correlation < 0.9999
    parity = last(shift)
    assert "(image 4 of a batch of 7)" in parity.reason
    assert parity.logits > 0.05
    parity = last(exchange)
    assert (parity.passed, parity.classes) == (False, 0.9)


def test_a_map_that_flips_in_most_images_is_refused(made: Any) -> None:
    def change(logits: Any, idx: Any, cam: Any) -> Any:
        cam = cam.copy()
        cam[: max(1, round(2 * FLIP_SHARE * len(cam))), 0, 0] += 0.02
        return logits, idx, cam

    parity = check_parity(*made, altered(made[1], change))
    assert parity.reason == f"the map differs by {parity.cam:.1e} or less, in 10 of 10 images"


def test_less_precision_may_differ_more(made: Any) -> None:
    explainable, lowered, metadata = made
    runner = altered(lowered, lambda logits, idx, cam: (logits * 1.001, idx, cam * 0.999))
    assert not check_parity(explainable, lowered, metadata, runner).passed
    assert check_parity(explainable, lowered, replace(metadata, precision="float16"), runner).passed


def test_a_fixed_batch_is_compared_at_its_own_size(made: Any) -> None:
    explainable, lowered, metadata = made
    fixed = replace(metadata, image_shape=[3, *metadata.image_shape[1:]])
    parity = check_parity(explainable, lowered, fixed, altered(lowered, lambda *right: right))
    assert (parity.images, parity.batches) == (3, [3])


@pytest.mark.parametrize("look", [None, "drawn"])
def test_the_overlay_is_compared_where_the_artifact_draws_one(look: str | None) -> None:
    photos = SimpleNamespace(
        image=lambda photos: photos, maps=lambda cam, photos: cam, look=look, overlay=lambda cam, photos: cam + 7
    )
    explainable: Any = shared.explained(TinyResNet, "layer1")
    answer = answer_network(explainable, 5, images(2), [], TOLERANCES["float32"], photos)  # type: ignore[arg-type]
    if look is None:
        assert answer.overlay is None
    else:
        assert np.array_equal(np.asarray(answer.overlay), answer.cam + 7)


def agreeing(classes: float, correlation: float = 1.0, lost: int = 0) -> Agreement:
    return Agreement(
        100, True, classes, correlation, correlation, [{"class_idx": n, "classes": 0} for n in range(lost)]
    )


def test_the_bounds_of_agreement_are_inside() -> None:
    for precision, bound in AGREEMENTS.items():
        require_agreement(agreeing(bound.usual_classes, bound.correlation), precision)
        with pytest.raises(VerificationError, match="expected at least"):
            require_agreement(agreeing(1.0, bound.correlation - 1e-6), precision)
        with pytest.raises(VerificationError, match="expected at least"):
            require_agreement(agreeing(bound.classes - 1e-6), precision)
    with pytest.warns(AgreementWarning, match="95% are usual"):
        require_agreement(agreeing(AGREEMENTS["int8"].classes), "int8")


@pytest.mark.parametrize("lost", [1, NAMED_CLASSES, NAMED_CLASSES + 2])
def test_lost_classes_are_named_up_to_ten(lost: int) -> None:
    names = ", ".join(map(str, range(min(lost, NAMED_CLASSES))))
    more = r" and 2 more\)" if lost > NAMED_CLASSES else r"\)"
    with pytest.warns(AgreementWarning, match=rf"\(for none of those of class {names}{more}"):
        require_agreement(agreeing(0.8, lost=lost), "int8")


def test_photos_to_calibrate_with(made: Any, tmp_path: Path) -> None:
    prepare = Preprocess((32, 32))
    with pytest.raises(InputError, match="missing is not a folder of photos"):
        check_calibration(tmp_path / "missing", prepare)
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(InputError, match="not a folder of photos"):
        check_calibration(tmp_path / "notes.txt", prepare)
    with pytest.raises(InputError, match="holds no photo"):
        check_calibration(tmp_path, prepare)
    (tmp_path / "more").mkdir()
    for number in range(MINIMUM):
        if number == MINIMUM - 1:
            with pytest.raises(InputError, match=rf"{MINIMUM - 1} image\(s\) to calibrate with; expected {MINIMUM}"):
                check_calibration(tmp_path, prepare)
        folder = tmp_path if number % 2 else tmp_path / "more"
        Image.linear_gradient("L").rotate(40 * number).convert("RGB").save(folder / f"{number}.PNG")
    assert [path.name for path in check_calibration(tmp_path, prepare)] == [
        f"{n}.PNG" for n in (1, 3, 5, 7, 0, 2, 4, 6)
    ]
    with pytest.raises(InputError, match="Nothing says how a photo becomes"):
        check_calibration(str(tmp_path), None)
    metadata, told = replace(made[2], preprocess=prepare), []
    batches = calibration_images(tmp_path, metadata, lambda *seen: told.append(seen))
    assert [batch.shape for batch in batches] == [(1, 3, 32, 32)] * MINIMUM
    assert len(told) == MINIMUM
    assert np.array_equal(batches[0], prepare(Image.open(tmp_path / "1.PNG")))
    array = np.random.default_rng(0).random((MINIMUM, 3, 32, 32), np.float32)
    batches = calibration_images(array, replace(metadata, image_shape=[3, *metadata.image_shape[1:]]))
    assert np.array_equal(batches[5], array[[5, 5, 5]])


def test_images_to_calibrate_with_show_a_range(made: Any) -> None:
    metadata, random = made[2], np.random.default_rng(0)
    one = random.random((1, 3, 32, 32), np.float32)
    with pytest.raises(InputError, match="The 8 images to calibrate with are one and the same"):
        calibration_images(np.repeat(one, 8, 0), metadata)
    colors = np.repeat(np.repeat(random.random((8, 3, 1, 1), np.float32), 32, 2), 32, 3)
    with pytest.raises(InputError, match="are of one color each, so the activations of real images would be cut off"):
        calibration_images(colors, metadata)
    photos = np.round(255 * colors).astype(np.uint8)
    for pixels, levels in (("NCHW", photos), ("NHWC", photos.transpose(0, 2, 3, 1)), ("NHW", photos[:, 0])):
        shape = [None, 3, None, None] if pixels == "NCHW" else [None, None, None, 3][: levels.ndim]
        of_photos = replace(metadata, pixels=pixels, image_shape=shape, preprocess=Preprocess((32, 32)), sizes=None)
        with pytest.raises(InputError, match="are of one color each"):
            calibration_images(levels, of_photos)
        ramp = levels + np.arange(32, dtype=np.uint8).reshape(32, *[1] * (pixels == "NHWC"))
        assert len(calibration_images(ramp, of_photos)) == 8


@pytest.mark.parametrize("kind", ["binary_logits", "binary", "sigmoid_logits"])
def test_present_classes_are_compared_where_each_is_by_itself(kind: str) -> None:
    """A network with one logit predicts class 0 of every image, whatever its decision."""
    ramp = np.arange(4.0).reshape(1, 2, 2)
    shift = 0.5 if kind == "binary" else 0.0

    def answering(rows: list[list[float]]) -> Any:
        turn = iter(rows)

        def run(image: Any, asked: Any) -> Any:
            logits = np.array([next(turn)]) + shift if asked.min() < 0 else np.zeros((1, len(rows[0])))
            return logits, np.zeros_like(asked), ramp

        return run

    yes, no = ([0.4], [-0.4]) if kind != "sigmoid_logits" else ([0.4, -0.4, 0.4], [-0.4, -0.4, 0.4])
    full, other = [yes, yes, no, no], [yes, no, no, no]
    batches = [np.zeros((1, 1, 2, 2))] * 4
    got = measure_agreement(answering(full), answering(other), batches, [1], kind=kind)  # type: ignore[arg-type]
    assert got.classes == (0.75 if kind != "sigmoid_logits" else (1 + 0.5 + 1 + 1) / 4)
    assert got.by_class[0] == {"class_idx": 0, "images": 2, "classes": 0.5, "correlation": pytest.approx(1.0)}
    assert [row["class_idx"] for row in got.by_class] == ([0] if kind != "sigmoid_logits" else [0, 2])
    strict = measure_agreement(answering(full), answering(other), batches, [1], kind=kind, threshold=0.95)  # type: ignore[arg-type]
    assert (strict.classes, strict.by_class) == (1.0, []), "nothing is present in any image"
    at = measure_agreement(answering([[0.0]] * 4), answering([no[:1]] * 4), batches, [1], kind=kind)  # type: ignore[arg-type]
    assert [row["images"] for row in at.by_class] == [4], "a probability that is the threshold itself is present"


@pytest.mark.parametrize("kind", ["scores", None])
def test_one_number_is_compared_itself(kind: Any) -> None:
    """A network that answers with an age predicts class 0 of every image, whatever age it says."""
    ramp = np.arange(4.0).reshape(1, 2, 2)

    def answering(numbers: list[float]) -> Any:
        turn = iter(numbers)

        def run(image: Any, asked: Any) -> Any:
            return np.array([[next(turn) if asked.min() < 0 else 0.0]]), np.zeros_like(asked), ramp

        return run

    full, other = [320.0, 340.0, 380.0, 360.0], [320.0, 346.0, 373.0, 360.0]
    got = measure_agreement(answering(full), answering(other), [np.zeros((1, 1, 2, 2))] * 4, [1], kind=kind)
    assert got.classes == 0.75, "6 of a range of 60 are near, 7 are not"
    assert got.by_class == [{"class_idx": 0, "images": 4, "classes": 0.75, "correlation": pytest.approx(1.0)}]
    noise = [np.zeros((1, 1, 2, 2))] * 4
    loose = measure_agreement(answering(full), answering(other), noise, [1], kind=kind, photos=False)
    assert loose.classes == 1, "made-up images have hardly a range"
    with pytest.raises(VerificationError, match="predicts nearly the same score for 50% of 4 photos"):
        require_agreement(replace(got, classes=0.5), "int8", ["age"], SAME_NUMBER)
