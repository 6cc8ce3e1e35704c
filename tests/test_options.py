"""What holds for every method, and what each option of the wrapper does to a map."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.errors import InputError, LayerError, ModelError
from explainable_model.methods import METHODS
from explainable_model.methods.fusion import FUSIONS
from explainable_model.methods.noise import gaussian_noise
from tests.support.method_checks import assert_equal_in_onnx_runtime
from tests.support.nets import SmallNet, TinyViT, images, seeded

MANY_PASSES = {
    "smoothgradcam++": 3,
    "scorecam": 6,
    "iscam": 12,
    "sscam": 18,
    "ablationcam": 6,
    "reciprocam": 16,
    "smoothgrad": 3,
}
ZERO, NEGATIVE = 3, 4  # classes of ``HardNet``


class HardNet(nn.Module):
    """No biases, so what scales the image scales every activation; class 3 has no weights, class 4 negative ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.ReLU())
        self.fc = nn.Linear(6, 5, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.block(self.stem(image)).mean((2, 3)))
        return logits


def hard_net() -> nn.Module:
    network = seeded(HardNet())
    with torch.no_grad():
        network.fc.weight[ZERO] = 0  # type: ignore[index, operator, union-attr]
        network.fc.weight[NEGATIVE] = -1  # type: ignore[index, operator, union-attr]
    return network


def vit() -> nn.Module:
    network = seeded(TinyViT(classes=5))
    with torch.no_grad():
        for value in (network.head.weight, network.head.bias):
            value[ZERO] = 0  # type: ignore[index, operator]
    return network


def small_options(method: str) -> dict[str, Any]:
    return {name: 3 for name in ("samples", "steps") if name in METHODS[method].options}


def of_method(method: str, **options: Any) -> ExplainableModel:
    transformer = METHODS[method].needs_tokens
    layer = "blocks.1.norm1" if transformer else "block"
    network = vit() if transformer else hard_net()
    return ExplainableModel(network, layer, method, options=small_options(method), **options)


def photos(method: str, batch: int = 2, seed: int = 1) -> Tensor:
    return images(batch, (3, 32, 32) if METHODS[method].needs_tokens else (3, 16, 16), seed=seed)


# Every method


@pytest.mark.parametrize("method", METHODS)
def test_hard_cases(method: str) -> None:
    """Finite and in [0, 1], whatever the image and the class."""
    explainable, image = of_method(method), photos(method)
    cases = {
        "constant": (torch.full_like(image, 0.5), 0),
        "black": (torch.zeros_like(image), 0),
        "zero gradient": (image, ZERO),
        "negative": (image, NEGATIVE),
        "tiny": (image * 1e-12, 0),
        "huge": (image * 1e12, 0),
    }
    if not METHODS[method].needs_layer and not METHODS[method].needs_tokens:
        cases["small"] = (image[:, :, :4, :4], 0)
    for name, (pixels, class_idx) in cases.items():
        cam = explainable(pixels, torch.full((2,), class_idx)).cam
        assert cam.shape == (2, *pixels.shape[2:]), name
        assert torch.isfinite(cam).all(), name
        assert cam.min() >= 0, name
        assert cam.max() <= 1, name


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "elementwise", "cam"])
def test_nothing_for_a_class_is_a_blank_map(method: str) -> None:
    for class_idx in (ZERO, NEGATIVE):
        assert not of_method(method)(photos(method), torch.tensor([class_idx, class_idx])).cam.any()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize(
    "method", ["gradcam", "xgradcam", "layercam", "hirescam", "elementwise", "cam", "eigencam", "eigengradcam",
               "ablationcam", "reciprocam", "inputxgradient", "saliency"],
)  # fmt: skip
def test_the_scale_of_activations_does_not_matter(method: str, scale: float) -> None:
    explainable, image, class_idx = of_method(method), photos(method), torch.tensor([0, 1])
    expected = explainable(image, class_idx).cam
    assert (expected.flatten(1).amax(1) > 0.5).any(), "a blank map proves nothing"
    assert (explainable(image * scale, class_idx).cam - expected).abs().max() < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_images_and_classes_are_independent(method: str) -> None:
    """A batch of two is two batches of one, two classes at once are one after the other, and classes differ."""
    explainable, image = of_method(method), photos(method)
    explainable.model.double()
    image = image.double()
    classes = [torch.tensor([0, 1]), torch.tensor([1, 2])]
    single = torch.stack([explainable(image, class_idx).cam for class_idx in classes], 1)
    alone = torch.cat([explainable(image[n : n + 1], classes[0][n : n + 1]).cam for n in range(2)])
    assert (single[:, 0] - alone).abs().max() < 1e-9
    several = of_method(method, top_k=2, chunk_size=2)
    several.model.double()
    assert (several(image, torch.stack(classes, 1)).cam - single).abs().max() < 1e-9
    apart = (single[:, 0] - single[:, 1]).abs().flatten(1).amax(1)
    assert (apart > 1e-3).all() if METHODS[method].class_specific else (apart < 1e-12).all()


# Chunks and progress


@pytest.mark.parametrize("method", MANY_PASSES)
def test_chunks_change_nothing_and_progress_is_told(method: str) -> None:
    copies, maps = MANY_PASSES[method], []
    for chunk_size in (1, 2, 64):
        told: list[tuple[int, int]] = []
        explainable = of_method(
            method, chunk_size=chunk_size, progress=lambda done, all, told=told: told.append((done, all))
        )
        explainable.model.double()
        maps.append(explainable(photos(method).double()).cam)
        assert told == [(min(done, copies), copies) for done in range(chunk_size, copies + chunk_size, chunk_size)]
    for cam in maps[1:]:
        assert (cam - maps[0]).abs().max() < 1e-9


def test_progress_of_three_parameters_is_told_the_step() -> None:
    told: list[tuple[object, ...]] = []
    explainable = of_method("scorecam", chunk_size=64, progress=lambda *step: told.append(step))
    explainable(photos("scorecam"))
    assert told == [("copies", MANY_PASSES["scorecam"], MANY_PASSES["scorecam"])]


def test_large_images_run_in_smaller_batches_on_a_cpu() -> None:
    network = seeded(nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)))
    told: list[int] = []
    explainable = ExplainableModel(network, "0", "scorecam", progress=lambda done, _: told.append(done))
    explainable(images(1, (3, 256, 512)))  # two of these are as many pixels as are run at once
    assert told == [2, 4, 5]
    told.clear()
    explainable(images(4, (3, 256, 512)))
    assert told == [1, 2, 3, 4, 5]


# What is done to a map


def network() -> nn.Module:
    return seeded(SmallNet()).double()


def call(image: Tensor, layer: str | Sequence[str] = "block", class_idx: Any = None, **options: Any) -> Tensor:
    return ExplainableModel(network(), layer, **options)(image, class_idx).cam  # type: ignore[arg-type]


def pictures() -> Tensor:
    return images(2, (3, 16, 16), seed=3).double()


def raw(layer: str = "block", **options: Any) -> Tensor:
    return call(pictures(), layer, normalize=False, upsample=False, signed=True, **options)


def test_a_signed_map_keeps_its_zero_by_default() -> None:
    maps, cam = raw(top_k=3), call(pictures(), signed=True, upsample=False, top_k=3)
    assert maps.min() < 0 < maps.max()
    assert torch.allclose(cam, maps / maps.abs().amax((2, 3), keepdim=True))
    assert torch.equal(cam, call(pictures(), signed=True, upsample=False, normalize=True, top_k=3))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shared_scale", [False, True])
def test_normalization(signed: bool, shared_scale: bool) -> None:
    maps = raw(top_k=3)
    assert maps.shape == (2, 3, 4, 4)
    assert maps.min() < 0 < maps.max()
    for normalize in ("minmax", "max", "none"):
        found = call(pictures(), top_k=3, upsample=False, normalize=normalize, signed=signed, shared_scale=shared_scale)
        for n in range(2):
            for k in range(3):
                cam = maps[n, k] if signed else maps[n, k].clamp(min=0)
                scope = (maps[n] if signed else maps[n].clamp(min=0)) if shared_scale else cam
                if normalize == "minmax":
                    cam = (cam - scope.min()) / (scope.max() - scope.min())
                elif normalize == "max":
                    cam = cam / scope.abs().max()
                assert (found[n, k] - cam).abs().max() < 1e-12


def test_booleans_stand_for_the_usual() -> None:
    assert torch.equal(call(pictures(), normalize=True, upsample=True), call(pictures()))
    assert torch.equal(call(pictures()), call(pictures(), normalize="minmax", upsample="bilinear"))
    assert torch.equal(
        call(pictures(), normalize=False, upsample=False), call(pictures(), normalize="none", upsample="none")
    )


@pytest.mark.parametrize("size", [None, (9, 20)])
def test_upsampling(size: tuple[int, int] | None) -> None:
    small = call(pictures(), upsample=False)
    for upsample, mode in (("bilinear", "bilinear"), ("bicubic", "bicubic"), ("nearest", "nearest-exact")):
        corners = {} if mode == "nearest-exact" else {"align_corners": False}
        plain = functional.interpolate(small[:, None], size or (16, 16), mode=mode, **corners)[:, 0]
        found = call(pictures(), upsample=upsample, size=size)
        assert found.shape == plain.shape
        assert (found - plain.clamp(0, 1)).abs().max() < 1e-12
        if upsample == "bicubic":
            assert plain.min() < 0, "the clamp must count"
            assert (call(pictures(), upsample=upsample, size=size, normalize="max", signed=True).abs() <= 1).all()


# Several layers


def fused_by_hand(maps: list[Tensor], fusion: str) -> Tensor:
    """One image; maps ``(H, W)`` that are not negative."""
    if fusion == "layercam":
        return torch.stack([torch.tanh(2 * cam / cam.max()) for cam in maps]).amax(0)
    scaled = torch.stack([(cam - cam.min()) / (cam.max() - cam.min()) for cam in maps])
    return {"mean": scaled.mean(0), "max": scaled.amax(0), "product": scaled.prod(0)}[fusion]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusion(fusion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = ["stem", "block.conv1", "block"]
    maps = []
    for layer in layers:
        cam = raw(layer, method="layercam", top_k=2).clamp(min=0)
        maps.append(functional.interpolate(cam, (8, 8), mode="bilinear", align_corners=False))
    backwards: list[Any] = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: backwards.append(a) or grad(*a, **k))  # type: ignore[func-returns-value]
    found = call(pictures(), layers, method="layercam", top_k=2, fusion=fusion, normalize=False, upsample=False)
    assert len(backwards) == 1, "all layers and classes share one backward pass"
    for n in range(2):
        for k in range(2):
            expected = fused_by_hand([cam[n, k] for cam in maps], fusion)
            assert (found[n, k] - expected).abs().max() < 1e-12


# Augmentation


@pytest.mark.parametrize("top_k", [None, 2])
def test_augmentation(top_k: int | None) -> None:
    plain, augmented = (ExplainableModel(network(), "block", top_k=top_k, augment=augment) for augment in (False, True))
    image = pictures()
    logits, class_idx, cam = augmented(image)
    assert torch.equal(logits, plain(image).logits)
    runs = []
    for factor in (1, 0.9, 1.1):
        runs.append(plain(image * factor, class_idx).cam)  # of the class that the image itself has
        runs.append(plain((image * factor).flip(-1), class_idx).cam.flip(-1))
    assert (cam - torch.stack(runs).mean(0)).abs().max() < 1e-12
    assert (cam - runs[0]).abs().max() > 1e-3


# Several classes


def test_top_k() -> None:
    image = pictures()
    explainable = ExplainableModel(network(), "block", top_k=3)
    logits, class_idx, cam = explainable(image)
    ranks = logits.argsort(1, descending=True)
    assert torch.equal(class_idx, ranks[:, :3])
    assert cam.shape == (2, 3, 16, 16)
    asked = torch.tensor([[-1, 2, -1], [0, -1, 4]])
    mixed = explainable(image, asked)
    assert torch.equal(mixed.class_idx, torch.where(asked == -1, ranks[:, :3], asked))
    for j in range(3):
        assert (mixed.cam[:, j] - call(image, class_idx=mixed.class_idx[:, j])).abs().max() < 1e-12
    every = ExplainableModel(network(), "block", top_k=5)(image)
    assert torch.equal(every.class_idx.sort(1).values, torch.arange(5).expand(2, 5))


def test_top_k_refusals() -> None:
    image = pictures()
    with pytest.raises(ValueError, match="top_k is 0; expected how many classes to explain"):
        ExplainableModel(network(), "block", top_k=0)
    with pytest.raises(InputError, match=r"top_k is 6; the network has 5 class"):
        ExplainableModel(network(), "block", top_k=6)(image)
    explainable = ExplainableModel(network(), "block", top_k=2)
    for wrong, message in (
        (torch.tensor([0, 1]), r"class_idx has shape \(2,\); expected \(2, 2\), 2 classes per image"),
        (torch.tensor([[0, 5], [0, 1]]), r"class_idx 5 is out of range; the network has 5 class"),
        (torch.tensor([[0, 1], [-2, 1]]), r"class_idx -2 is out of range"),
    ):
        with pytest.raises(InputError, match=message):
            explainable(image, wrong)


# Refusals


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gradcam9"}, ValueError, "Unknown method 'gradcam9'; known methods: gradcam, gradcam\\+\\+, "),
        ({"fusion": "sum"}, ValueError, "Unknown fusion 'sum'; known fusions: mean, max, product, layercam"),
        ({"normalize": "l2"}, ValueError, "normalize is 'l2'; expected one of minmax, max, none, True or False"),
        ({"upsample": "cubic"}, ValueError, "upsample is 'cubic'; expected one of bilinear, bicubic, nearest, none"),
        ({"size": (0, 4)}, ValueError, r"size is \(0, 4\) .*; expected positive lengths"),
        ({"size": (4, 4), "upsample": False}, ValueError, r"size is \(4, 4\) with upsample='none'"),
        ({"chunk_size": 0}, ValueError, "chunk_size is 0; expected how many copies"),
        (
            {"method": "smoothgrad", "options": {"sample": 3}},
            ValueError,
            r"Method 'smoothgrad' has no option 'sample'; its options are: samples=16, noise=0.15, seed=0\.",
        ),
        ({"options": {"gamma": 3}}, ValueError, r"Method 'gradcam' has no option 'gamma'; its options are: none\."),
        ({"target_layer": []}, LayerError, r"target_layer is \[\]; expected different layers, or None"),
        ({"target_layer": ["block", "block"]}, LayerError, "expected different layers"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ExplainableModel(network(), **{"target_layer": "block", **options})


@pytest.mark.parametrize(
    ("method", "option", "value", "message"),
    [
        ("smoothgrad", "samples", 0, r"'samples' of method 'smoothgrad' is 0; expected an integer of at least 1\."),
        ("smoothgrad", "samples", 2.5, "is 2.5; expected an integer of at least 1"),
        ("smoothgrad", "samples", True, "is True; expected an integer of at least 1"),
        ("smoothgrad", "noise", -0.1, "is -0.1; expected a finite number of at least 0"),
        ("smoothgrad", "seed", -1, "is -1; expected an integer of at least 0 and of at most 2147483646"),
        ("smoothgradcam++", "samples", -2, "is -2; expected an integer of at least 1"),
        ("integrated_gradients", "steps", -3, "is -3; expected an integer of at least 1"),
        ("integrated_gradients", "baseline", float("inf"), r"is inf; expected a finite number\."),
        ("finercam", "gamma", float("nan"), "is nan; expected a finite number of at least 0"),
        ("finercam", "references", "3", "is '3'; expected an integer of at least 1"),
        ("iscam", "samples", 1, "is 1; expected an integer of at least 2"),
        ("sscam", "noise", None, "is None; expected a finite number of at least 0"),
        ("reciprocam", "gaussian", 1, "is 1; expected True or False"),
        ("legrad", "first", 0.0, r"is 0.0; expected an integer\."),
    ],
)
def test_values_out_of_range(method: str, option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExplainableModel(network(), "block", method, options={option: value})


def test_every_option_has_a_kind_and_takes_its_default() -> None:
    for method in METHODS.values():
        assert method.check_options(method.options) == method.options


@pytest.mark.parametrize(
    "wrong", [lambda scores: scores.sum(), lambda scores: scores[:1], lambda scores: scores[:, None]]
)
def test_targets_of_another_length(wrong: Callable[[Tensor], Tensor]) -> None:
    explainable = ExplainableModel(network(), "block", target=lambda output, class_idx: wrong(output[:, 0]))
    with pytest.raises(ModelError, match=r"The target's score is \(.*\); expected one value per image, shape \(2,\)"):
        explainable(pictures())


def test_logits_that_are_no_numbers() -> None:
    broken = network()
    with torch.no_grad():
        broken.fc.bias[1] = float("nan")  # type: ignore[operator, union-attr]
    with pytest.raises(ModelError, match="SmallNet returned NaN logits for a finite image"):
        ExplainableModel(broken, "block")(pictures())


# Noise


def test_noise_is_normal_and_uncorrelated() -> None:
    noise = gaussian_noise(torch.zeros(1, 3, 64, 64, dtype=torch.float64), 8, seed=0).flatten(1)
    count = noise.shape[1]
    assert noise.mean(1).abs().max() < 4 / count**0.5
    assert (noise.std(1) - 1).abs().max() < 4 / (2 * count) ** 0.5
    assert ((noise.abs() < 1).double().mean() - 0.6827).abs() < 0.01
    assert ((noise.abs() > 2).double().mean() - 0.0455).abs() < 0.005
    others = gaussian_noise(torch.zeros(1, 3, 64, 64, dtype=torch.float64), 8, seed=1).flatten(1)
    correlation = torch.corrcoef(torch.cat([noise, others])) - torch.eye(16)
    assert correlation.abs().max() < 5 / count**0.5, "copies and seeds are independent"
    for shift in (1, 64):  # neighbors in a row and in a column
        assert (noise[:, shift:] * noise[:, :-shift]).mean(1).abs().max() < 5 / count**0.5


def test_noise_is_the_same_everywhere() -> None:
    image = torch.zeros(2, 3, 8, 8)
    assert torch.equal(gaussian_noise(image, 4, 0), gaussian_noise(image[:1], 4, 0)), "whatever the batch"
    assert torch.equal(gaussian_noise(image, 4, 0)[:2], gaussian_noise(image, 2, 0)), "however many copies"
    assert not torch.equal(gaussian_noise(image, 4, 0), gaussian_noise(image, 4, 1))
    assert_equal_in_onnx_runtime(lambda image: gaussian_noise(image, 3, 5) + 0 * image[:1], [(3, 8, 8)], 1e-5)
