"""Plain and explained artifacts of a subject: written once, opened in new processes."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.isolation import Figures, run_isolated
from benchmarks.plain import PLAIN, Array
from benchmarks.subjects import Subject
from explainable_model import FORMATS

if TYPE_CHECKING:
    from explainable_model import ExplainableModel, LoweredModel

EAGER = "eager"
REFERENCE_BATCH = 2
PREDICTED = -1


@dataclass(frozen=True)
class Artifact:
    """A network in a runtime, with or without its explanation.

    Attributes:
        subject: the network, and the layer to explain.
        runtime: key of ``FORMATS``, or ``eager``.
        explained: whether the artifact explains.
        scratch: the folder of all artifacts.
    """

    subject: Subject
    runtime: str
    explained: bool
    scratch: Path

    @property
    def path(self) -> Path:
        """The artifact's file; every layer shares the plain one."""
        suffix = FORMATS[self.runtime].suffixes[0]
        subject = self.subject if self.explained else Subject(self.subject.model, "plain", self.subject.size)
        return subject.folder(self.scratch) / f"model{suffix}"

    @property
    def size(self) -> int | None:
        """The size in bytes of the file and of its external weights; ``None`` without a file."""
        if self.runtime == EAGER:
            return None
        weights = self.path.with_suffix(".bin") if self.runtime == "openvino" else Path(f"{self.path}.data")
        return sum(file.stat().st_size for file in (self.path, weights) if file.exists())

    def open(self, threads: int = 1) -> Callable[[Array], tuple[Array, ...]]:
        """Open a function from an image to the outputs: ``(logits,)`` or ``(logits, class_idx, cam)``."""
        if self.runtime == EAGER:
            return self._open_eager(threads)
        if not self.explained:
            predict = PLAIN[self.runtime].open(self.path, threads)
            return lambda image: (predict(image),)
        fmt = FORMATS[self.runtime]
        run, _ = (fmt.open_trusted or fmt.open)(self.path, threads)  # the file was made here
        top_k = self.subject.top_k

        def explain(image: Array) -> tuple[Array, ...]:
            shape = (len(image),) if top_k is None else (len(image), top_k)
            return tuple(run(image, np.full(shape, PREDICTED, np.int64)))

        return explain

    def _open_eager(self, threads: int) -> Callable[[Array], tuple[Array, ...]]:
        import torch

        torch.set_num_threads(threads)
        model = self.subject.build()
        explainable = self.subject.explainable(model) if self.explained else None

        def run(image: Array) -> tuple[Array, ...]:
            with torch.inference_mode():
                tensor = torch.from_numpy(image)
                outputs = (model(tensor),) if explainable is None else explainable(tensor)
            return tuple(output.numpy() for output in outputs)

        return run

    def measure_parity(self) -> dict[str, float]:
        """The difference from the eager network, on images that are not timed."""
        reference = np.load(self.subject.folder(self.scratch) / "reference.npz")
        images = reference["image"]
        if takes_one_image(self.runtime):
            outputs = [
                np.concatenate(each) for each in zip(*map(self.open(), np.split(images, len(images))), strict=True)
            ]
        else:
            outputs = list(self.open()(images))
        return compare_answers(dict(zip(("logits", "class_idx", "cam"), outputs, strict=False)), reference)


def compare_answers(answer: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, float]:
    """The difference of logits over the largest logit, and of maps over their range, of the worst image."""
    logits = expected["logits"]
    found = {"logits": float(np.abs(answer["logits"] - logits).max() / np.abs(logits).max())}
    if "cam" in answer:
        found |= compare_maps(answer["cam"], expected["cam"])
    return found


def compare_maps(cam: Array, expected: Array) -> dict[str, float]:
    """Largest difference and smallest correlation over the maps ``(..., h, w)`` of a batch."""
    ours, theirs = (each.astype(np.float64).reshape(-1, each.shape[-1] * each.shape[-2]) for each in (cam, expected))
    correlations = [
        float(np.corrcoef(a, b)[0, 1]) if a.std() * b.std() > 0 else float(np.array_equal(a, b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return {"cam": float(np.abs(ours - theirs).max()), "correlation": min(correlations)}


def ensure_artifacts(subject: Subject, runtimes: list[str], scratch: Path) -> Figures:
    """Build the missing artifacts in a new process; the seconds of building, and the least cost of an explanation."""
    record = subject.folder(scratch) / "built.json"
    known: Figures = json.loads(record.read_text()) if record.exists() else {}
    if known.get("library") != _read_library_version():
        known = {"export_cpu_s": {}}
    missing = [runtime for runtime in runtimes if runtime != EAGER and runtime not in known["export_cpu_s"]]
    if missing or "floor" not in known:
        built = run_isolated(build_artifacts, subject, missing, scratch, timeout=1800)
        known = {**built, "export_cpu_s": {**known["export_cpu_s"], **built["export_cpu_s"]}}
        record.write_text(json.dumps(known))
    return known


def build_artifacts(subject: Subject, runtimes: list[str], scratch: Path) -> Figures:
    """Lower, and write plain and explained artifacts for the runtimes; runs in a new process."""
    import torch

    from benchmarks.graph_cost import compare_flops, compute_floor
    from explainable_model import lower

    torch.set_num_threads(1)
    folder, plain_folder = subject.folder(scratch), Subject(subject.model, "plain", subject.size).folder(scratch)
    for each in (folder, plain_folder):
        each.mkdir(parents=True, exist_ok=True)
    model = subject.build()
    explainable = subject.explainable(model)
    image = torch.from_numpy(subject.make_images(REFERENCE_BATCH))
    started = time.process_time()
    lowered = lower(explainable, image)
    lower_seconds = time.process_time() - started
    answer = explainable(image)
    np.savez(folder / "reference.npz", image=image.numpy(), logits=answer.logits.numpy(), cam=answer.cam.numpy())
    return {
        "library": _read_library_version(),
        "layer": explainable.target_layer,
        "floor": compute_floor(explainable, image),
        "flops": compare_flops(lambda: lowered(image), model, image),
        "lower_cpu_s": lower_seconds,
        "export_cpu_s": {name: _write(name, explainable, lowered, subject, scratch) for name in runtimes},
    }


def _write(
    runtime: str, explainable: "ExplainableModel", lowered: "LoweredModel", subject: Subject, scratch: Path
) -> float:
    """Write the explained artifact, and a missing plain one; the CPU seconds of writing the explained one."""
    from explainable_model import lower

    plain, explained = (Artifact(subject, runtime, which, scratch).path for which in (False, True))
    finished = plain.with_name(f"{plain.name}.finished")
    if not finished.exists():
        PLAIN[runtime].write(explainable.model, lowered.example, plain)
        finished.touch()
    if takes_one_image(runtime):
        lowered = lower(explainable, lowered.example[:1], dynamic_batch=False)
    started = time.process_time()
    write_unverified(lowered, runtime, explained)
    return time.process_time() - started


def write_unverified(lowered: "LoweredModel", runtime: str, path: Path) -> None:
    """Write an artifact without loading and verifying it as ``export`` does, so that a clock can time writing alone."""
    from explainable_model.exporters.describe import describe

    FORMATS[runtime].write(lowered, path, describe(lowered, runtime, None, None).to_json())


def _read_library_version() -> float:
    """The time of the library's newest file; artifacts of an older library are made again."""
    import explainable_model

    return max(file.stat().st_mtime for file in Path(explainable_model.__file__).parent.rglob("*.py"))


def takes_one_image(runtime: str) -> bool:
    """Whether the runtime fixes the batch size at export, here to one."""
    return runtime != EAGER and FORMATS[runtime].fixed_size


def find_available_runtimes(names: Mapping[str, Any] | list[str]) -> list[str]:
    """Those of some runtimes that are installed."""
    from importlib.util import find_spec

    known = [name for name in names if name == EAGER or (name in FORMATS and name in PLAIN)]
    return [name for name in known if name == EAGER or find_spec(FORMATS[name].packages[0]) is not None]
