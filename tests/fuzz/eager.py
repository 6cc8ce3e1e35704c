"""Compare eager explanations with the oracle."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from explainable_model.errors import ExplainableModelError
from explainable_model.methods import input_gradient
from explainable_model.targets import Binary, Custom, Similarity
from tests.fuzz.blocks import ChannelsLast
from tests.fuzz.cases import Case, Wrong, draw_classes, explainable_of
from tests.fuzz.formulas import FORMULAS
from tests.fuzz.oracle import INDEPENDENT, Oracle, finished
from tests.fuzz.sight import Undefined

EXACT = 1e-9  # of the largest value of a map
ROUNDING = 1e-12  # of the largest product of activations and gradients
SATURATED = 1e-9  # a map below it, of probabilities
RAW = {"normalize": "none", "upsample": "none", "signed": True}


def check_eager(case: Case) -> str:
    """Compare the signed map and the finished map with the oracle's."""
    inputs, classes = case.inputs(case.batch, case.seed), draw_classes(case, case.batch)
    explainable = explainable_of(case, case.network.module, RAW)
    try:
        answer = explainable(inputs[0], classes, *inputs[1:])
    except ExplainableModelError as error:
        if _is_independent(case, inputs):
            return f"undefined: {INDEPENDENT}"
        is_default_refused = case.is_default and "the automatic choice cannot compare its layers" in str(error)
        if "nor torch.export allows" in str(error) or is_default_refused:
            return "undefined: autograd refuses an operation in place"
        if case.is_default and "No layer of" in str(error) and _depends_on_nothing(case, inputs):
            return "undefined: the score depends on the layer by rounding alone"
        if case.method == "cam" and "needs average pooling" in str(error) and _has_flat_gradients(case, inputs):
            raise Wrong("CAM is refused where the gradient is the same at every position") from error
        raise error
    if case.is_default and explainable.target_layer is not None:
        case.layer = explainable.target_layer
        if case.layer not in case.layouts:
            raise Wrong(f"the default layer {case.layer!r} is not in find_layers")
    if case.method == "fullgrad":
        return check_completeness(case, inputs, classes)
    if case.method not in FORMULAS:
        return "undefined: no formula"
    if case.method == "shapleycam" and case.layout[2]:
        return "undefined: the class token, which no formula sees, has a share of the curvature"
    if case.layer and case.layer in case.layouts and _reads_wrongly(case):
        if case.layout[0] == "channels_last" and _is_container(case):
            return "undefined: a container tells no order, and is documented to be read by whole strides"
        if answer.cam.shape[-1] == answer.cam.shape[-2] == _channels(case):
            return "undefined: the shape of the layer fits both orders, and is documented to be read as channels first"
        raise Wrong(f"layer {case.layer!r} is read as {case.layout}")
    done = explainable_of(case, case.network.module, case.post)(inputs[0], classes, *inputs[1:])
    oracle, reasons = Oracle(case, inputs), set()
    for n in range(case.batch):
        try:
            _compare_image(case, oracle, n, answer, done)
        except Undefined as reason:
            reasons.add(str(reason))
    return f"undefined: {', '.join(sorted(reasons))}" if reasons else "equal"


def check_completeness(case: Case, inputs: Sequence[Tensor], classes: Tensor | None) -> str:
    """The image times its gradient and the shares of all biases add up to the score: FullGrad's own equation."""
    sums: list[Tensor] = []
    made = input_gradient.fullgrad

    def fullgrad(image: Tensor, gradients: Tensor, shares: Sequence[Tensor]) -> Tensor:
        parts = [(image * gradients).flatten(1).sum(1), *(share.flatten(1).sum(1) for share in shares)]
        if all(len(part) == len(image) for part in parts):
            sums.append(torch.stack(parts).sum(0))
        return made(image, gradients, shares)

    with mock.patch.object(input_gradient, "fullgrad", fullgrad):
        answer = explainable_of(case, case.network.module, RAW)(inputs[0], classes, *inputs[1:])
    if case.network.extra is not None or not sums or isinstance(case.target, (Similarity, Custom)):
        return "undefined: other inputs, or a target that is not linear, have a share of the score"
    oracle, asked = Oracle(case, inputs), answer.class_idx.reshape(len(inputs[0]), -1)
    scores = [oracle.run(inputs[0][n : n + 1], n).differentiable[0] for n in range(len(asked))]
    want = torch.stack([scores[n][asked[n]] for n in range(len(asked))]).flatten().detach()
    if isinstance(case.target, Binary) and case.target.threshold:
        return "undefined: a threshold has a share of the score"
    _require("sum of the full gradient", sums[-1], want, EXACT * max(1.0, float(want.abs().max())))
    return "equal"


def _reads_wrongly(case: Case) -> bool:
    """Whether ``find_layers`` takes channels last for channels first, or the reverse."""
    kind, grid, _ = case.layout
    modules: Any = case.network.module
    path = (case.layer or "").split(".")
    owner = modules.get_submodule(".".join(path[:-1]))
    module = modules.get_submodule(case.layer)
    is_last = isinstance(module, (nn.LayerNorm, nn.Linear))
    is_last |= isinstance(owner, ChannelsLast) and path[-1] == "activation"
    if kind == "tokens" or len(grid) != 2:
        return False
    return (kind == "channels_last") != is_last


def _is_container(case: Case) -> bool:
    module: Any = case.network.module.get_submodule(case.layer or "")
    return type(module) is not nn.Sequential and any(True for _ in module.children())


def _channels(case: Case) -> int:
    """The length of the last dimension of what a layer with its channels last returns."""
    module: Any = case.network.module.get_submodule(case.layer or "")
    widths = (getattr(module, "out_features", 0), *getattr(module, "normalized_shape", ()))
    owner: Any = case.network.module.get_submodule((case.layer or "").rpartition(".")[0])
    return max(widths) or int(owner.wide.out_features)


def _is_independent(case: Case, inputs: Sequence[Tensor]) -> bool:
    """Whether autograd says that the score does not depend on the layer."""
    if not case.layer or not case.differentiates:
        return False
    try:
        Oracle(case, inputs).sight(0, 0, 0)
    except Undefined as reason:
        return str(reason) == INDEPENDENT
    return False


def _depends_on_nothing(case: Case, inputs: Sequence[Tensor]) -> bool:
    """Whether autograd says that no change of the drawn layer moves the first image's scores by more than rounding."""
    run = Oracle(case, inputs).run(inputs[0][:1], 0)
    if run.leaf is None:
        return False
    scores, leaf = run.differentiable[0], run.leaf
    found = [torch.autograd.grad(score, leaf, retain_graph=True, allow_unused=True)[0] for score in scores]
    reach = [
        float(torch.linalg.vector_norm(each) * torch.linalg.vector_norm(leaf)) for each in found if each is not None
    ]
    return max(reach, default=0.0) <= 1e4 * torch.finfo(torch.float64).eps * float(scores.abs().max())


def _has_flat_gradients(case: Case, inputs: Sequence[Tensor]) -> bool:
    """Whether the gradient of the first score is the same at every position of each channel, for every image."""
    oracle, asked = Oracle(case, inputs), draw_classes(case, case.batch)
    for n in range(case.batch):
        column = 0 if asked is None else int(asked[n])
        flat = oracle.sight(n, column, column).gradients.flatten(1)
        if float((flat.amax(1) - flat.amin(1)).max()) > 1e-3 * float(flat.abs().max()):
            return False
    return asked is not None


def _compare_image(case: Case, oracle: Oracle, n: int, answer: Any, done: Any) -> None:
    classes = answer.class_idx[n].reshape(-1).tolist()
    maps = answer.cam[n] if case.top_k else answer.cam[n : n + 1]
    ends = done.cam[n] if case.top_k else done.cam[n : n + 1]
    asked = draw_classes(case, case.batch)
    for position, (class_idx, cam, end) in enumerate(zip(classes, maps, ends, strict=True)):
        column = 0 if type(case.target).__name__ == "Custom" else class_idx
        if asked is not None and class_idx != int(asked[n]):
            raise Wrong(f"class {class_idx} instead of {int(asked[n])}")
        want, sight = oracle.explain(n, column, class_idx)
        if asked is None and type(case.target).__name__ != "Custom":
            _check_predicted(case, oracle, n, class_idx, position, sight.values)
        error = ROUNDING * _magnitude(sight) + EXACT * float(want.abs().max())
        saturates = isinstance(case.target, Custom) and case.network.ending is not None
        if saturates and float(want.abs().max()) < SATURATED:
            raise Undefined("autograd loses the digits of a saturated probability under a target of one's own")
        if not cam.any() and float(want.abs().max()) > error and _is_noise(sight):
            raise Undefined("the gradient is rounding noise")
        _require(f"signed map of image {n}, class {class_idx}", cam, want, error)
        if not case.top_k:
            want = FORMULAS[case.method](replace(sight, upsample=case.post["upsample"]))
            _compare_finished(case, end, want, error)


def _check_predicted(case: Case, oracle: Oracle, n: int, class_idx: int, position: int, values: Tensor) -> None:
    if getattr(case.target, "mask", None) == "own" and case.network.classes > 1:
        logits = oracle.run(oracle.inputs[0][n : n + 1], n, grad=False).logits
        values = torch.bincount(logits[0].argmax(0).flatten(), minlength=logits.shape[1]).double()
    ranked = values.sort(descending=True).values
    if values[class_idx] < ranked[position] - 1e-12:
        raise Wrong(f"predicted class {class_idx} of {values.tolist()}")


def _is_noise(sight: Any) -> bool:
    """Whether no change of the activations by their own size moves the score by more than rounding."""
    if sight.gradients is None or sight.activations is None:
        return False
    reach = torch.linalg.vector_norm(sight.gradients) * torch.linalg.vector_norm(sight.activations)
    return float(reach) < 1e4 * torch.finfo(torch.float64).eps * float(sight.values.abs().max())


def _magnitude(sight: Any) -> float:
    activations = sight.image if sight.activations is None else sight.activations
    slope = 1.0 if sight.gradients is None else float(sight.gradients.abs().max())
    return float(activations.abs().max()) * max(slope, 1e-30) * len(activations)


def _require(what: str, got: Tensor, want: Tensor, error: float) -> None:
    if got.shape != want.shape:
        raise Wrong(f"{what}: shape {tuple(got.shape)} instead of {tuple(want.shape)}")
    off = float((got - want).abs().max())
    if not off <= error:
        raise Wrong(f"{what} differs by {off:.2e}, allowed {error:.2e}, largest {float(want.abs().max()):.2e}")


def _compare_finished(case: Case, got: Tensor, want: Tensor, error: float) -> None:
    post, size = case.post, case.network.image_shape[1:]
    rectified = want if post["signed"] else want.clamp(min=0)
    scale = {"none": 1.0, "max": float(rectified.abs().max())}.get(
        post["normalize"], float(rectified.max() - rectified.min())
    )
    if post["normalize"] != "none" and scale < 1e6 * error:
        raise Undefined("a map at rounding level is normalized") if scale > 0 else Undefined("a map of zeros")
    _require("finished map", got, finished(want, size, **post), 10 * error / scale + 1e-12)
