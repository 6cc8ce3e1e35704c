"""From logits to one score per image and class, and the checks of classes."""

import pytest
import torch

from explainable_model.attribution.inputs import check_class_idx, check_class_range
from explainable_model.attribution.scores import class_scores, resolve_class_idx
from explainable_model.eager.autograd import score_gradient
from explainable_model.errors import InputError, ModelError


def test_class_scores() -> None:
    assert class_scores(torch.tensor([[1.0, 2.0]]), 1).tolist() == [[1, 2]]
    assert class_scores(torch.tensor([3.0, 4.0]), 2).tolist() == [[3], [4]]
    assert class_scores(torch.tensor([3.0, 4.0]).reshape(2, 1, 1, 1), 2).tolist() == [[3], [4]]
    segmentation = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert class_scores(segmentation, 1).tolist() == [[0 + 1 + 2 + 3, 4 + 5 + 6 + 7]]
    for wrong in (torch.tensor(1.0), torch.zeros(3, 2)):
        with pytest.raises(ModelError, match=r"logits of shape .* for 2 image"):
            class_scores(wrong, 2)


def test_resolve_class_idx() -> None:
    scores = torch.tensor([[0.0, 1.0], [5.0, 1.0], [2.0, 2.0]])
    assert resolve_class_idx(torch.full((3, 1), -1), scores).tolist() == [[1], [0], [0]]
    assert resolve_class_idx(torch.tensor([[-1], [1], [-1]]), scores).tolist() == [[1], [1], [0]]
    # In column j, -1 is the class predicted j-th.
    assert resolve_class_idx(torch.tensor([[-1, -1], [-1, 0], [1, -1]]), scores)[:2].tolist() == [[1, 0], [0, 0]]
    with pytest.raises(InputError, match=r"top_k is 3; the network has 2 class"):
        resolve_class_idx(torch.full((3, 3), -1), scores)


def test_checks() -> None:
    check_class_idx(torch.tensor([0, -1]), 2)
    check_class_range(torch.tensor([0, -1, 4]), 5)
    with pytest.raises(InputError, match="int32"):
        check_class_idx(torch.tensor([0], dtype=torch.int32), 1)
    with pytest.raises(InputError, match=r"class_idx 5 is out of range; the network has 5 class"):
        check_class_range(torch.tensor([0, 5]), 5)


def test_score_gradient_of_the_logit_under_softmax() -> None:
    activations = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 5.0, 0.0]])
    logits = activations @ weight.t()
    seed = torch.tensor([[0.0, 1.0]])
    for output in (logits, logits.softmax(1), (logits * 1.0).sigmoid().unsqueeze(2).squeeze(2), logits.log_softmax(1)):
        (gradient,) = score_gradient(output, output, seed, [activations], keep_graph=True)
        assert gradient is not None
        assert gradient.tolist() == [[0, 5, 0]]
    # A softmax that is not at the end is differentiated like anything else.
    inner = logits.softmax(1) * 2
    (expected,) = torch.autograd.grad(inner[0, 1], activations, retain_graph=True)
    (gradient,) = score_gradient(inner, inner, seed, [activations])
    assert gradient is not None
    assert torch.allclose(gradient, expected)
