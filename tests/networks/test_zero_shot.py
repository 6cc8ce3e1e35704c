"""CLIP and SigLIP as classifiers: transformers' own logits, and a map and an artifact of each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from explainable_model import ExplainableModel, export, load
from explainable_model.errors import ModelError
from explainable_model.networks.zero_shot import ZeroShotClassifier, embed_texts
from tests.support.nets import images

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SIZES, "vocab_size": 128, "bos_token_id": 126, "eos_token_id": 127, "max_position_embeddings": 24}
VISION = {**SIZES, "image_size": 32, "patch_size": 8}
NAMES = ["cat", "dog", "espresso"]


def tokenizer(text: list[str], return_tensors: str, padding: str, truncation: bool) -> dict[str, torch.Tensor]:
    """One token for each letter, between the two ends; then padding."""
    assert (return_tensors, padding, truncation) == ("pt", "max_length", True)
    rows = [[126, *[ord(letter) % 120 for letter in one][:22], 127] for one in text]
    ids = torch.tensor([row + [127] * (24 - len(row)) for row in rows])
    return {"input_ids": ids}


def network(kind: str) -> Any:
    torch.manual_seed(3)
    if kind == "clip":
        return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION)).eval()
    model = SiglipModel(SiglipConfig(text_config={**TEXT, "projection_size": 32}, vision_config=VISION)).eval()
    with torch.no_grad():
        model.logit_scale.fill_(1.5)
        model.logit_bias.fill_(-2.0)
    return model


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_logits_are_the_network_s_own(kind: str) -> None:
    model, image = network(kind), images(2)
    classifier = ZeroShotClassifier.from_texts(model, NAMES, tokenizer)
    texts = [f"a photo of a {name}." for name in NAMES]
    with torch.no_grad():
        expected = model(**tokenizer(texts, "pt", "max_length", True), pixel_values=image).logits_per_image
        assert (classifier(image) - expected).abs().max() < 1e-5
    odds = expected.softmax(1) if kind == "clip" else expected.sigmoid()
    assert (ExplainableModel(classifier)(image).probabilities - odds).abs().max() < 1e-5
    assert classifier.class_names == tuple(NAMES)


def test_cosines_without_a_scale_are_no_probabilities() -> None:
    class Encoder(nn.Sequential):
        def encode_image(self, image: torch.Tensor) -> torch.Tensor:
            return self(image)

    body = Encoder(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    classifier = ZeroShotClassifier(body, torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    assert ExplainableModel(classifier, "network.1")(images(1)).output_kind == "scores"


def test_several_templates_are_averaged_on_the_unit_sphere() -> None:
    model = network("clip")
    classifier = ZeroShotClassifier.from_texts(model, NAMES, tokenizer, ["a {}", "the {}."])
    sets = [embed_texts(model, [text.format(name) for name in NAMES], tokenizer) for text in ("a {}", "the {}.")]
    mean = sum(embeddings / embeddings.norm(dim=1, keepdim=True) for embeddings in sets)
    torch.testing.assert_close(classifier.embeddings, mean / mean.norm(dim=1, keepdim=True))


def test_an_artifact_explains_a_text_and_holds_no_text_tower(tmp_path: Path) -> None:
    model = network("clip")
    classifier = ZeroShotClassifier.from_texts(model, NAMES, tokenizer)
    explainable = ExplainableModel(classifier, method="gradeclip")
    path = export(explainable, tmp_path / "clip.onnx", images(2), class_names=classifier.class_names)
    image = images(3, seed=4)
    answer, expected = load(path)(image.numpy(), np.array([2, 0, 1])), explainable(image, [2, 0, 1])
    assert np.abs(answer.logits - expected.logits.numpy()).max() < 1e-4
    assert np.abs(answer.cam - expected.cam.numpy()).max() < 1e-4
    assert expected.cam.flatten(1).amax(1).min() > 0.5
    vision = sum(parameter.numel() for parameter in model.vision_model.parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert 4 * vision < path.stat().st_size < 4 * whole


def test_refusals() -> None:
    with pytest.raises(ModelError, match="Sequential has neither get_image_features"):
        ZeroShotClassifier(nn.Sequential(), torch.ones(2, 4))
    with pytest.raises(ValueError, match="class_names is 'cat'; expected a list of names"):
        ZeroShotClassifier.from_texts(network("clip"), "cat", tokenizer)
    with pytest.raises(ValueError, match="template is 'a photo'; expected a text with {}"):
        ZeroShotClassifier.from_texts(network("clip"), NAMES, tokenizer, "a photo")
