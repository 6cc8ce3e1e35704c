"""Names as people type them."""

import pytest

from explainable_model.spelling import find_near, simplify, suggest

KNOWN = ("gradcam", "gradcam++", "layercam", "eigencam", "integrated_gradients")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("grad", "gradcam"),
        ("GradCamm", "gradcam"),
        ("Grad-CAM ++", "gradcam++"),
        ("layer-cm", "layercam"),
        ("integrated", "integrated_gradients"),
        ("IntegratedGradient", "integrated_gradients"),
    ],
)
def test_the_nearest_name_comes_first(wrong: str, near: str) -> None:
    assert find_near(wrong, KNOWN)[0] == near
    assert suggest(wrong, KNOWN).startswith(f" Did you mean {near!r}")


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert suggest("zzz", KNOWN) == ""
    assert suggest("", KNOWN) == ""
    assert suggest("g" * 100_000, KNOWN) == ""
    assert suggest("x", KNOWN) == ""


def test_one_spelling() -> None:
    assert simplify("Grad-CAM++") == simplify("gradcam++") == "gradcam++"
    assert simplify("Recipro CAM") == "reciprocam"
