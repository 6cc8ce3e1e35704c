"""Measure the maps of every method on EfficientNet-Lite0 with real weights, for ``results/quality.md``.

The photos are measured in parts of eight. Each value is stored as soon as it is known, so an interrupted run goes on,
and after each part the table has all that is known.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.quality_photos import STAMPS, write_composites
from benchmarks.quality_table import to_markdown
from benchmarks.results import RESULTS
from benchmarks.timing import describe_environment
from explainable_model import ExplainableModel, NamedModel, Session, export, load
from explainable_model.demo import efficientnet_lite0
from explainable_model.evaluation import Evaluation, evaluate
from explainable_model.writing import write_bytes

SCRATCH = Path("build/benchmarks/quality")
LAST, EARLIER = "bn2", "blocks.4"  # grids of 7 x 7 and 14 x 14
PART = 8  # photos
OF_MAPS = ("coherency", "adcc", "randomization")
CHEAP = ("average_drop", "increase", "complexity", "sparseness", "class_sensitivity", "grid_pointing", "discrimination")
OF_MASKS = ("pointing_game", "energy_in_mask", "iou")
CURVES = ("insertion", "deletion", "road")
MORE = ("pixel_flipping", "infidelity", "faithfulness_correlation", "max_sensitivity")


@dataclass(frozen=True)
class Stage:
    """Methods that are measured in the same way.

    Attributes:
        methods: keys of ``METHODS``.
        layers: each method is explained at each; empty for the default layer, which is ``LAST``, or the image.
        measures: keys of ``MEASURES``.
        parts: how many parts of the photos are measured.
        photos: how many photos of a part.
        options: of the methods.
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    measures: tuple[str, ...]
    parts: int
    photos: int = PART
    options: Mapping[str, Any] = field(default_factory=dict)


AT_LAYERS = (
    *("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "elementwise", "eigengradcam", "segeigencam"),
    *("shapleycam", "finercam", "eigencam", "fem", "kpcacam"),
)
AT_DEFAULT = (
    *("cam", "reciprocam", "guided_gradcam"),
    *("saliency", "inputxgradient", "guided_backprop", "fullgrad"),
)
OF_COPIES = (
    *("smoothgradcam++", "ablationcam"),
    *("smoothgrad", "smoothgrad_sq", "vargrad", "integrated_gradients", "expected_gradients"),
)
FIRST = ("gradcam", "gradcam++", "layercam", "eigencam", "saliency", "guided_backprop")
QUICK = (*CHEAP, *OF_MAPS, *OF_MASKS)
SLOW = (*CURVES, *MORE)
SOME = (*CHEAP, *OF_MASKS, *CURVES)
STAGES: Mapping[str, Stage] = {
    "first": Stage(FIRST, (), (*CHEAP, "randomization", *OF_MASKS), 8),
    "layers": Stage(AT_LAYERS, (LAST, EARLIER), QUICK, 8),
    "default": Stage(AT_DEFAULT, (), QUICK, 8),
    "concepts": Stage(("dff",), (), QUICK, 8),
    "layers-curves": Stage(AT_LAYERS, (LAST, EARLIER), SLOW, 2),
    "default-curves": Stage(AT_DEFAULT, (), SLOW, 2),
    "copies": Stage(OF_COPIES, (), SOME, 1),
    "occlusion": Stage(("occlusion",), (), SOME, 1),
    "rise": Stage(("rise",), (), SOME, 1, 4, {"samples": 500}),
    "scorecam": Stage(("scorecam",), (), SOME, 1, 4),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the scratch folder lacks, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument(
        "--stage",
        action="append",
        choices=list(STAGES),
        help="only this one; may be repeated; default: all but first, which has six methods of the others",
    )
    parser.add_argument("--parts", type=int, metavar="N", help=f"at most so many parts of {PART} photos")
    parser.add_argument("--stamps", type=Path, default=STAMPS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--report", action="store_true", help="write the table of what is known; measure nothing")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    found: dict[str, Any] = {}
    if not given.report:
        named = replace(efficientnet_lite0(), output_kind="logits")
        predictor = _open_predictor(named, given.scratch)
        photos = write_composites(given.stamps, given.scratch, lambda pictures: _predict(named, predictor, pictures))
        for part in range(max(stage.parts for stage in STAGES.values()) if given.parts is None else given.parts):
            for name in given.stage or [name for name in STAGES if name != "first"]:
                if part < STAGES[name].parts:
                    print(f"{name}, part {part + 1}", file=sys.stderr, flush=True)
                    chosen = photos[part * PART :][: STAGES[name].photos]
                    _measure(name, part, chosen, named, predictor, given.scratch)
            found = write_results(given.scratch, given.out)
    found = found or write_results(given.scratch, given.out)
    if given.json:
        print(json.dumps(found, indent=1))
    return 0


def _open_predictor(named: NamedModel, scratch: Path) -> Session:
    import torch

    path = scratch / "lite0.onnx"
    if not path.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        export(ExplainableModel(named.model, LAST), path, image, preprocess=named.preprocess)
    return load(path, threads=1)


def _predict(named: NamedModel, predictor: Session, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
    assert named.preprocess is not None
    scores = predictor.predict(np.concatenate([named.preprocess(picture) for picture in pictures]))
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float64)


def _measure(
    name: str, part: int, photos: Sequence[Path], named: NamedModel, predictor: Session, scratch: Path
) -> Evaluation:
    stage = STAGES[name]
    return evaluate(
        named,
        photos,
        measures=stage.measures,
        masks=scratch / "masks" if set(stage.measures) & set(OF_MASKS) else None,
        methods=stage.methods,
        layers=stage.layers or None,
        predictor=predictor,
        rows=scratch / f"{name}-{part}.jsonl",
        progress=True,
        **({"options": dict(stage.options)} if stage.options else {}),
    )


def write_results(scratch: Path, out: Path) -> dict[str, Any]:
    """Write means and intervals of all values that are known, and the table."""
    rows: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for path in sorted(scratch.glob("*.jsonl")):
        for line in path.read_text("utf-8").split("\n")[1:-1]:  # a row that was cut off has no end of line
            row = json.loads(line)
            rows[row["candidate"], row["photo"]].update(row["values"])
    merged = [{"candidate": name, "photo": photo, "values": values} for (name, photo), values in rows.items()]
    measures = [*CHEAP, *OF_MAPS, *OF_MASKS, *CURVES, *MORE]
    names = list(dict.fromkeys(row["candidate"] for row in merged))
    summary = Evaluation(merged, measures, names, {}).summary
    figures = {
        name: {measure: _describe(value) for measure, value in row.items() if value is not None}
        for name, row in summary.items()
    }
    found = {"environment": describe_environment(), "rows": figures}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "quality.json", (json.dumps(found, indent=1) + "\n").encode())
    write_bytes(out / "quality.md", to_markdown(found).encode())
    return found


def _describe(value: Any) -> dict[str, float]:
    return {key: number if key == "photos" else round(number, 4) for key, number in value._asdict().items()}
