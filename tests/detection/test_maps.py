"""The map of a box against plain autograd, written from the papers and not from the library."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.detection.wrap import METHODS_OF_BOXES
from explainable_model.errors import InputError, ZeroMapWarning
from tests.support.detectors import SIZE, photos, tiny_faster_rcnn, tiny_fcos, tiny_retinanet, tiny_ssd

Method = Callable[[Tensor, Tensor], Tensor]


def odam(activations: Tensor, gradient: Tensor) -> Tensor:
    """Zhao and Chan 2023, arXiv 2304.06354, equation 2 with the element-wise weights: relu(sum_k dy/dA_k * A_k)."""
    return (gradient * activations).sum(1).relu()


def grad_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2."""
    return (gradient.mean((2, 3), keepdim=True) * activations).sum(1).relu()


def layer_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021, equations 5 to 7."""
    return (gradient.relu() * activations).sum(1).relu()


METHODS: dict[str, Method] = {"odam": odam, "gradcam": grad_cam, "layercam": layer_cam}


def head_run(network: Any, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """The inputs of the head as leaves, and the logits ``(1, anchors, classes)``; the image needs no resizing."""
    mean, std = (torch.tensor(values, dtype=image.dtype)[:, None, None] for values in (
        network.transform.image_mean, network.transform.image_std))  # fmt: skip
    padded = functional.pad((image - mean) / std, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32))
    padded = padded if network.transform.size_divisible == 32 else (image - mean) / std
    with torch.no_grad():
        levels = list(network.backbone(padded).values())
    leaves = [level.detach().requires_grad_() for level in levels]
    return leaves, network.head(leaves)["cls_logits"]


def finished(cam: Tensor, finest: tuple[int, int]) -> Tensor:
    if tuple(cam.shape[1:]) != finest:
        cam = functional.interpolate(cam[None], finest, mode="bilinear", align_corners=False)[0]
    cam = (cam - cam.min()) / (cam.max() - cam.min())
    return functional.interpolate(cam[None], SIZE, mode="bilinear", align_corners=False)[0, 0]


def expected_map(network: Any, image: Tensor, box: Tensor, label: int, method: Method) -> Tensor:
    """The map of the anchor whose own result is this box."""
    leaves, logits = head_run(network, image)
    score = logits[0, :, label]
    if type(network).__name__ == "SSD":  # the classes share a softmax
        score = torch.log_softmax(logits[0], 1)[:, label]
        score = score - torch.log1p(-score.exp())
    anchor = find_anchor(network, image, box)
    gradients = torch.autograd.grad(score[anchor], leaves)
    level = next(n for n, gradient in enumerate(gradients) if gradient.any())
    assert sum(bool(gradient.any()) for gradient in gradients) == 1  # a box lies on one level
    cam = method(leaves[level].detach(), gradients[level])
    return finished(cam, (leaves[0].shape[2], leaves[0].shape[3]))


def find_anchor(network: Any, image: Tensor, box: Tensor) -> int:
    """Which anchor was decoded to this box, by torchvision's own coder."""
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import clip_boxes_to_image

    leaves, _ = head_run(network, image)
    with torch.no_grad():
        deltas = network.head(leaves)["bbox_regression"][0]
        side = [-(-length // 32) * 32 if network.transform.size_divisible == 32 else length for length in SIZE]
        padded = torch.zeros(1, 3, *side, dtype=image.dtype)
        anchors = network.anchor_generator(ImageList(padded, [SIZE]), leaves)[0]
        decode = getattr(network.box_coder, "decode_single", network.box_coder.decode)
        boxes = clip_boxes_to_image(decode(deltas, anchors), SIZE)
    return int((boxes - box).abs().sum(1).argmin())


@pytest.mark.parametrize("make", [tiny_retinanet, tiny_fcos, tiny_ssd])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_map_is_that_of_plain_autograd(make: Callable[[], Any], method: Method) -> None:
    name = {odam: "hirescam", grad_cam: "gradcam", layer_cam: "layercam"}[method]
    network, image = make().double(), photos(1).double()
    explainable: Any = ExplainableModel(network, task="detection", top_k=3, method=name)
    detections, cam = explainable(image)
    for rank in range(3):
        box, label = detections.boxes[0, rank], int(detections.labels[0, rank])
        torch.testing.assert_close(cam[0, rank], expected_map(network, image, box, label, method), rtol=0, atol=1e-9)
    assert torch.corrcoef(cam[0].flatten(1))[0, 1] < 0.95  # another box has another map


@pytest.mark.parametrize("make", [tiny_retinanet, tiny_ssd])
def test_windows_compute_what_the_whole_head_computes(make: Callable[[], Any]) -> None:
    network, image = make().double(), photos(2).double()
    explainable: Any = ExplainableModel(network, task="detection", top_k=20, method="hirescam")
    explainable(image)
    local = explainable.attribute(image)
    explainable.model.only_windows = False
    whole = explainable.attribute(image)
    torch.testing.assert_close(local.gradients, whole.gradients, rtol=0, atol=1e-12)
    detections, cam = explainable(image)
    explainable.model.only_windows = True
    _, same = explainable(image)
    torch.testing.assert_close(cam, same, rtol=0, atol=1e-9)
    edge = (detections.boxes <= 0).any(2) | (detections.boxes >= torch.tensor([*SIZE[::-1], *SIZE[::-1]])).any(2)
    assert edge.any()  # a window that crosses the border of the image
    assert not edge.all()


def test_eigencam_explains_the_level_of_the_box() -> None:
    network, image = tiny_fcos(), photos(1)
    explainable: Any = ExplainableModel(network, task="detection", top_k=5, method="eigencam", upsample="none")
    _, cam = explainable(image)
    assert cam.shape[2:] == (12, 12)
    assert (cam.flatten(2).amax(2) == 1).all()


@pytest.mark.parametrize("name", METHODS_OF_BOXES)
def test_every_method_gives_each_box_a_map(name: str) -> None:
    explainable: Any = ExplainableModel(tiny_faster_rcnn(), task="detection", top_k=3, method=name)
    detections, cam = explainable(photos(2))
    assert detections.valid.all()
    assert cam.isfinite().all()
    assert (cam.flatten(2).amax(2) > 0).all()


def test_a_batch_is_its_images_one_by_one() -> None:
    explainable: Any = ExplainableModel(tiny_retinanet(), task="detection", top_k=2, method="hirescam")
    image = photos(3)
    detections, cam = explainable(image)
    for n in range(3):
        one, alone = explainable(image[n : n + 1])
        torch.testing.assert_close(one.boxes[0], detections.boxes[n])
        torch.testing.assert_close(alone[0], cam[n], rtol=0, atol=1e-4)


def test_ranks_choose_boxes() -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=2, max_boxes=6, method="hirescam")
    first: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=6, method="hirescam")
    image = photos(2)
    want, maps = first(image)
    got, cam = explainable(image, torch.tensor([[4, 0], [-1, 5]]))
    for n, ranks in enumerate([[4, 0], [0, 5]]):
        assert got.boxes[n].equal(want.boxes[n, ranks])
        assert got.scores[n].equal(want.scores[n, ranks])
        torch.testing.assert_close(cam[n], maps[n, ranks], rtol=0, atol=1e-5)


def test_a_given_box_chooses_the_candidate_that_overlaps_most() -> None:
    network, image = tiny_retinanet(), photos(2)
    plain: Any = ExplainableModel(network, task="detection", top_k=3, method="hirescam")
    chosen: Any = ExplainableModel(network, task="detection", top_k=3, method="hirescam", by_box=True)
    want, maps = plain(image)
    got, cam = chosen(image, None, want.boxes.flip(1))
    torch.testing.assert_close(got.boxes, want.boxes.flip(1))
    assert got.scores.equal(want.scores.flip(1))
    torch.testing.assert_close(cam, maps.flip(1), rtol=0, atol=1e-5)
    far, empty = chosen(image, None, torch.full((2, 3, 4), -9.0))
    assert not far.valid.any()
    assert not empty.any()
    with pytest.raises(InputError, match=r"The box is torch.float32 of shape \(2, 4\); expected .*\(N, 3, 4\)"):
        chosen(image, None, want.boxes[:, 0])


def test_one_box_keeps_its_dimension() -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", method="hirescam")
    detections, cam = explainable(photos(2))
    assert detections.boxes.shape == (2, 1, 4)
    assert detections.valid.shape == (2, 1)
    assert cam.shape == (2, 1, *SIZE)
    assert explainable(photos(2), 0).cam.shape == (2, 1, *SIZE)


@pytest.mark.parametrize(
    ("make", "score"), [(tiny_fcos, "objectness"), (tiny_fcos, "x1"), (tiny_retinanet, "x1"), (tiny_retinanet, "y2")]
)
def test_other_scores_have_other_maps(make: Callable[[], Any], score: str) -> None:
    image, options = photos(1), {"task": "detection", "top_k": 5, "method": "hirescam", "signed": True}
    plain: Any = ExplainableModel(make(), **options)
    other: Any = ExplainableModel(make(), **options, box_score=score)
    detections, cam = plain(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroMapWarning)  # a side at the border of the image does not move
        same, changed = other(image)
    assert same.boxes.equal(detections.boxes)
    assert changed.any()
    assert not torch.allclose(cam, changed, atol=0.05)


def test_a_region_keeps_the_map_at_its_box() -> None:
    image, options = photos(1), {"task": "detection", "top_k": 3, "upsample": "nearest"}
    network = tiny_retinanet()
    plain: Any = ExplainableModel(network, **options)
    detections, cam = plain(image)
    boxed: Any = ExplainableModel(network, **options, region="box")
    gaussian: Any = ExplainableModel(network, **options, region="gaussian")
    inside = torch.zeros_like(cam)
    for rank, (left, top, right, bottom) in enumerate(detections.boxes[0].tolist()):
        cells = [int(top // 8 * 8), int(-(-bottom // 8) * 8), int(left // 8 * 8), int(-(-right // 8) * 8)]
        inside[0, rank, cells[0] : cells[1], cells[2] : cells[3]] = 1
    share = lambda maps: ((maps * inside).sum() / maps.sum()).item()  # noqa: E731
    assert share(boxed(image).cam) > 0.999
    assert share(cam) < share(gaussian(image).cam) <= 1
    assert share(gaussian(image).cam) > 0.3
