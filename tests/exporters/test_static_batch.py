"""One batch size by request: nothing in the graph is open, and every format still equals eager."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import InputError
from tests.networks.test_batch import Loop
from tests.support.cli_run import NAMED, Run
from tests.support.nets import QUICK_FORMATS, TinyResNet, TinyViT, images, seeded

CASES: list[tuple[type[torch.nn.Module], str, int, dict[str, Any]]] = [
    (TinyResNet, "layer1", 3, {"top_k": 2}),  # two copies of the tail
    (TinyResNet, "layer2", 2, {"method": "shapleycam"}),  # a second trace, for its curvature
    (TinyViT, "blocks.1.norm1", 1, {"method": "ablationcam", "signed": True}),
]


@pytest.mark.parametrize(("kind", "layer", "batch", "options"), CASES, ids=["top_k", "shapleycam", "ablationcam"])
def test_every_format_equals_eager(
    kind: type[torch.nn.Module], layer: str, batch: int, options: dict[str, Any], tmp_path: Path
) -> None:
    explainable = ExplainableModel(seeded(kind()), layer, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lowered = lower(explainable, images(batch), dynamic_batch=False)
    assert lowered.image_shape == [batch, 3, 32, 32]
    targets = [str(node.target) for node in lowered.graph_module.graph.nodes]
    assert not [target for target in targets if "sym_size" in target], "every size is a number"
    fresh = images(batch, seed=9)
    want = explainable(fresh, None)
    assert want.cam.abs().max() > 0.5, "a map of zeros would prove nothing"
    for fmt in QUICK_FORMATS:
        path = export(lowered, tmp_path / f"net{fmt.suffixes[0]}")
        assert read_metadata(path).batch == batch
        session = load(path)
        assert np.abs(session(fresh).cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
        with pytest.raises(InputError, match=rf"expects \({batch}, 3, 32, 32\)"):
            session(images(batch + 1))


def test_onnx_has_numbers_for_every_size(tmp_path: Path) -> None:
    import onnx

    path = export(
        ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / "net.onnx", images(1), dynamic_batch=False
    )
    graph = onnx.load(path).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)}
    assert {name: [size.dim_value for size in shape] for name, shape in shapes.items()} == {
        "image": [1, 3, 32, 32], "class_idx": [1], "logits": [1, 5], "explained_class_idx": [1], "cam": [1, 32, 32],
    }  # fmt: skip
    assert "Shape" not in {node.op_type for node in graph.node}


def test_height_and_width_may_still_be_open(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    path = export(explainable, tmp_path / "net.ts", images(2), dynamic_batch=False, dynamic_size=True)
    assert read_metadata(path).image_shape == [2, 3, None, None]
    larger = images(2, (3, 40, 56), seed=3)
    assert np.abs(load(path)(larger).cam - explainable(larger).cam.numpy()).max() <= TOLERANCES["float32"].cam


def test_a_network_that_refuses_an_open_batch_needs_no_warning(tmp_path: Path) -> None:
    path = export(ExplainableModel(seeded(Loop()), "conv"), tmp_path / "net.ts", images(3), dynamic_batch=False)
    assert read_metadata(path).batch == 3  # warnings are errors here


def test_a_model_lowered_for_any_batch_is_not_made_static(tmp_path: Path) -> None:
    lowered = lower(ExplainableModel(seeded(TinyResNet()), "layer2"), images(1))
    with pytest.raises(InputError, match="lower it with dynamic_batch=False"):
        export(lowered, tmp_path / "net.onnx", dynamic_batch=False)


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    run = Run(capsys, "export", "--model", NAMED, "--batch", 2, "-o", path, "--json")
    assert (run.code, run.record["batch_rule"], run.record["image_shape"]) == (0, "exactly 2", [2, 3, 32, 32])
    run = Run(capsys, "verify", path, "--model", NAMED)
    assert run.code == 0, run.err
    for wrong in ("0", "-1", "two"):
        run = Run(capsys, "export", "--model", NAMED, f"--batch={wrong}", "-o", path)
        assert run.code == 2
        assert f"'{wrong}' is no count; expected a whole number from 1 on" in run.err
