"""Image classifiers of Hugging Face transformers: tiny ones with random weights, and folders of weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from explainable_model import ExplainableModel, Preprocess, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.eager.find_layer import default_layer
from explainable_model.errors import ModelError
from explainable_model.networks.named import has_random_weights, load_named_model
from explainable_model.networks.transformers import read_preprocess
from tests.support.cli_run import Run
from tests.support.nets import QUICK_FORMATS, images, seeded
from tests.support.reference import gradcam

WIDTHS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
LABELS = {0: "tabby", 1: "crane", 2: "espresso"}


def vit() -> nn.Module:
    config = transformers.ViTConfig(**WIDTHS, intermediate_size=32, id2label=LABELS)
    return transformers.ViTForImageClassification(config)


def swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4, num_labels=3
    )
    return transformers.SwinForImageClassification(config)


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 12], depths=[1, 2], num_stages=2, patch_size=2, image_size=32, num_labels=3
    )
    return transformers.ConvNextForImageClassification(config)


def dinov2() -> nn.Module:
    return transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**WIDTHS, num_labels=3))


class Logits(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).logits


# Network, the layer that is taken where none is named, one with the same output as a plain tensor, and the tokens in
# front of its patches (None: no tokens)
CASES: list[tuple[Any, str, str, int | None]] = [
    (vit, "vit.layers.1.layernorm_before", "vit.layers.1.layernorm_before", 1),
    (swin, "swin.layernorm", "swin.layernorm", 0),
    (convnext, "convnext.encoder", "convnext.encoder.stages.1", None),
    (dinov2, "dinov2.layernorm", "dinov2.layernorm", 1),
]


@pytest.mark.parametrize(("build", "layer", "plain", "prefix"), CASES)
def test_classifiers(build: Any, layer: str, plain: str, prefix: int | None, tmp_path: Path) -> None:
    network = seeded(build())
    assert default_layer(network, images(1)) == layer
    explainable, image = ExplainableModel(network), images(3, seed=4)
    want = explainable(image)
    assert torch.allclose(want.logits, network(image).logits, atol=1e-6)
    class_idx, signed = gradcam(Logits(network), f"network.{plain}", image, prefix_tokens=prefix)
    raw = ExplainableModel(network, normalize=False, upsample=False)(image)
    assert torch.equal(raw.class_idx, class_idx)
    assert (raw.cam - signed.clamp(min=0)).abs().max() <= 1e-5 * signed.abs().max()
    assert want.cam.amax() > 0.5, "a map of zeros would prove nothing"
    lowered = lower(explainable, images(1))
    assert (lowered(image).cam - want.cam).abs().max() <= TOLERANCES["float32"].cam
    for fmt in QUICK_FORMATS:
        got = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"))(image)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
        assert np.abs(got.logits - want.logits.numpy()).max() <= 1e-4 * float(want.logits.abs().max())


# Folders of weights

VIT_PROCESSOR = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25], "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 32, "width": 32},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "vit"
    seeded(vit()).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(VIT_PROCESSOR))
    return path


def test_a_folder_of_weights(folder: Path, capsys: pytest.CaptureFixture[str], photos: list[Path]) -> None:
    name = f"transformers:{folder}"
    named = load_named_model(name)
    assert torch.equal(named.model(images(2)).logits, seeded(vit())(images(2)).logits)
    assert not named.model.training
    assert not has_random_weights(name, None, False)
    assert named.class_names == ("tabby", "crane", "espresso")
    assert named.preprocess == Preprocess((32, 32), (0.5,) * 3, (0.25,) * 3, None, "bilinear")
    artifact = folder.parent / "vit.ts"
    assert Run(capsys, "export", "--model", name, "-o", artifact).code == 0
    metadata = load(artifact).metadata
    assert (metadata.target_layer, metadata.model) == ("vit.layers.1.layernorm_before", "ViTForImageClassification")
    pictures = folder.parent / "pictures"
    run = Run(capsys, "explain", photos[0], "--artifact", artifact, "--class", "crane", "--out", pictures, "--json")
    assert run.code == 0
    assert run.record["photos"][0]["class_name"] == "crane"


def test_folders_that_are_refused(folder: Path) -> None:
    name = f"transformers:{folder}"
    for options in ({"pretrained": True}, {"classes": 7}):
        with pytest.raises(ModelError, match="holds its weights and classes"):
            load_named_model(name, **options)
    for missing in ("google/vit-base-patch16-224", str(folder / "nothing")):
        with pytest.raises(ModelError, match=r"not a folder with config.json.*nothing is downloaded"):
            load_named_model(f"transformers:{missing}")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="is not an image classifier of transformers"):
        load_named_model(name)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="Pickled weights are not read"):
        load_named_model(name)


def test_code_in_a_folder_does_not_run(folder: Path) -> None:
    proof = folder / "proof.txt"
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w').close()\nclass Config: pass\nclass Net: pass\n")
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Net"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is not an image classifier of transformers: .*contains custom code"):
        load_named_model(f"transformers:{folder}")
    assert not proof.exists()


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights of its ViTForImageClassification: classifier.weight"):
        load_named_model(f"transformers:{folder}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": 48}, ((48, 48), None)),
        ({"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}, ((56, 56), 64)),
        ({"size": {"shortest_edge": 64}, "crop_size": 56, "do_center_crop": True}, ((56, 56), 64)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, ((224, 224), 256)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ((384, 384), None)),
        ({"do_center_crop": True, "crop_size": {"height": 24, "width": 24}}, None),
        ({"size": {"shortest_edge": 64}}, None),
        ({"size": {"longest_edge": 64}}, None),
        ({"size": None}, None),
        ({"do_rescale": False}, None),
        ({"rescale_factor": 1 / 127.5}, None),
    ],
)
def test_image_processors(
    changes: dict[str, Any], expected: tuple[tuple[int, int], int | None] | None, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**VIT_PROCESSOR, **changes}))
    found = read_preprocess(tmp_path)
    assert (None if found is None else (found.size, found.resize)) == expected


def test_image_processors_that_are_missing_or_broken(tmp_path: Path) -> None:
    assert read_preprocess(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        read_preprocess(tmp_path)


def test_what_the_processor_does_is_what_transformers_does(folder: Path, photos: list[Path]) -> None:
    from PIL import Image

    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False, local_files_only=True)
    photo = Image.open(photos[0]).convert("RGB")
    want = processor(images=photo, return_tensors="np")["pixel_values"]
    preprocess = read_preprocess(folder)
    assert preprocess is not None
    assert np.abs(preprocess(photo) - want).max() < 0.05, "a grey level or three, in units of the standard deviation"
