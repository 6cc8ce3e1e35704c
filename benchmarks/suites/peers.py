"""Compare the eager wrapper with pytorch-grad-cam, torchcam and captum, on the same network, layer and images."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import tables
from benchmarks.artifacts import compare_maps
from benchmarks.isolation import Figures, run_isolated
from benchmarks.results import Row
from benchmarks.subjects import TOP_K, Subject, build_out_of_place
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import Effort, measure_memory, measure_pairs, time_on_host

CONVOLUTIONAL = ("resnet18", "resnet50", "mobilenet_v3_large", "efficientnet_b0", "vgg16_bn")
BATCHES = (1, 8)
OURS = "explainable_model"
MANY_PASSES = ("scorecam", "ablationcam")
Explain: TypeAlias = Callable[[Tensor], Tensor]  # (N, C, H, W) -> normalized maps (N, H, W)


def build_ours(model: nn.Module, layer: str, method: str) -> Explain:
    """Build this library's eager wrapper."""
    from explainable_model import ExplainableModel

    explainable = ExplainableModel(model, layer, method)
    return lambda image: explainable(image).cam


def build_grad_cam(model: nn.Module, layer: str, method: str) -> Explain:
    """Build pytorch-grad-cam's explanation of the predicted class."""
    import pytorch_grad_cam

    kinds = {"gradcam": "GradCAM", "scorecam": "ScoreCAM", "ablationcam": "AblationCAM"}
    cam = getattr(pytorch_grad_cam, kinds[method])(model, [model.get_submodule(layer)])
    return lambda image: torch.from_numpy(cam(input_tensor=image, targets=None))


def build_torchcam(model: nn.Module, layer: str, method: str) -> Explain:
    """Build torchcam's explanation of the predicted class."""
    import torchcam.methods

    extractor = {"gradcam": torchcam.methods.GradCAM, "scorecam": torchcam.methods.ScoreCAM}[method](model, layer)

    def explain(image: Tensor) -> Tensor:
        scores = model(image)
        maps = extractor(scores.argmax(1).tolist(), scores)[0]
        return _upsample(maps, image)

    return explain


def build_captum(model: nn.Module, layer: str, method: str) -> Explain:
    """Build captum's layer Grad-CAM of the predicted class."""
    from captum.attr import LayerAttribution, LayerGradCam

    attribution = LayerGradCam(model, model.get_submodule(layer))

    def explain(image: Tensor) -> Tensor:
        with torch.no_grad():
            target = model(image).argmax(1)
        maps = attribution.attribute(image, target=target, relu_attributions=True)
        return _normalize(LayerAttribution.interpolate(maps, image.shape[2:], "bilinear")[:, 0].detach())

    return explain


def _upsample(maps: Tensor, image: Tensor) -> Tensor:
    size = image.shape[2:]
    return torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0].detach()


def _normalize(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


LIBRARIES: Mapping[str, Callable[[nn.Module, str, str], Explain]] = {
    OURS: build_ours,
    "pytorch-grad-cam": build_grad_cam,
    "torchcam": build_torchcam,
    "captum": build_captum,
}


def list_tasks(settings: Settings) -> list[Task]:
    """Rows for Grad-CAM by network and library, for several classes, and for the methods of many passes."""
    found = []
    for model in settings.choose_models(CONVOLUTIONAL):
        for library in LIBRARIES:
            key = f"{model}/gradcam/{library}"
            found.append(Task(key, partial(_measure_gradcam, Subject(model, size=settings.size), library, settings)))
    for model in settings.choose_models(("resnet18", "mobilenet_v3_large")):
        subject = Subject(model, size=settings.size)
        for library in (OURS, "pytorch-grad-cam"):
            found.append(Task(f"{model}/five classes/{library}", partial(_measure_several, subject, library, settings)))
    for model in settings.choose_models(("resnet18", "mobilenet_v3_large")):
        for method in MANY_PASSES:
            for library in (OURS, "pytorch-grad-cam", *(["torchcam"] if method == "scorecam" else [])):
                measure = partial(_measure_many_passes, Subject(model, size=settings.size), library, method, settings)
                found.append(Task(f"{model}/{method}/{library}", measure))
    return found


def _measure_gradcam(subject: Subject, library: str, settings: Settings) -> Row:
    figures = run_isolated(
        measure_library, subject, library, settings.choose_effort(), settings.threads, threads=settings.threads
    )
    figures["memory"] = {
        name: run_isolated(measure_library_memory, subject, name, settings.threads, threads=settings.threads)
        for name in ("plain", library)
    }
    return {"model": subject.model, "method": "gradcam", "library": library, **figures}


def measure_library(subject: Subject, library: str, effort: Effort, threads: int) -> Figures:
    """Time plain forward and library in turn, and compare the library's maps with ours."""
    torch.set_num_threads(threads)
    model, layer = _build_network(subject)
    explain = LIBRARIES[library](model, layer, "gradcam")
    batches = {}
    for batch in BATCHES:
        image = torch.from_numpy(subject.make_images(batch))
        batches[str(batch)] = measure_pairs(
            lambda image=image: _forward(model, image), lambda image=image: explain(image), effort
        )  # type: ignore[misc]
    image = torch.from_numpy(subject.make_images(2))
    agreement = compare_maps(explain(image).numpy(), build_ours(model, layer, "gradcam")(image).numpy())
    return {"layer": layer, "batches": batches, "agreement": agreement}


def measure_library_memory(subject: Subject, library: str, threads: int) -> Figures:
    """Measure the memory of one library alone, or of the plain forward, at the largest batch."""
    torch.set_num_threads(threads)
    model, layer = _build_network(subject)
    image = torch.from_numpy(subject.make_images(BATCHES[-1]))
    if library == "plain":
        return measure_memory(lambda: _forward(model, image))
    explain = LIBRARIES[library](model, layer, "gradcam")
    return measure_memory(lambda: explain(image))


def _measure_several(subject: Subject, library: str, settings: Settings) -> Row:
    figures = run_isolated(
        measure_several, subject, library, settings.choose_effort(), settings.threads, threads=settings.threads
    )
    return {"model": subject.model, "method": "five classes", "library": library, **figures}


def measure_several(subject: Subject, library: str, effort: Effort, threads: int) -> Figures:
    """Time the maps of the five best classes of one image."""
    torch.set_num_threads(threads)
    model, layer = _build_network(subject)
    image = torch.from_numpy(subject.make_images(1))
    run = _build_several(library, model, layer)
    ours_run = _build_several(OURS, model, layer)
    pairs = measure_pairs(lambda: _forward(model, image), lambda: run(image), effort)
    agreement = compare_maps(run(image).numpy(), ours_run(image).numpy())
    return {"layer": layer, "batches": {"1": pairs}, "agreement": agreement}


def _build_several(library: str, model: nn.Module, layer: str) -> Explain:
    """Build a function from an image ``(1, C, H, W)`` to the maps ``(5, H, W)``."""
    if library == OURS:
        from explainable_model import ExplainableModel

        explainable = ExplainableModel(model, layer, top_k=TOP_K)
        return lambda image: explainable(image).cam[0]
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = pytorch_grad_cam.GradCAM(model, [model.get_submodule(layer)])

    def explain(image: Tensor) -> Tensor:
        classes = _forward(model, image).topk(TOP_K).indices[0].tolist()
        copies = image.expand(TOP_K, -1, -1, -1)  # a batch is faster than a loop
        return torch.from_numpy(cam(input_tensor=copies, targets=[ClassifierOutputTarget(c) for c in classes]))

    return explain


def _measure_many_passes(subject: Subject, library: str, method: str, settings: Settings) -> Row:
    figures = run_isolated(
        measure_many_passes, subject, library, method, settings.threads, settings.scratch, threads=settings.threads,
        timeout=3600,
    )  # fmt: skip
    return {"model": subject.model, "method": method, "library": library, **figures}


def measure_many_passes(subject: Subject, library: str, method: str, threads: int, scratch: Path) -> Figures:
    """Time one call, and plain forwards before and after it."""
    torch.set_num_threads(threads)
    model, layer = _build_network(subject)
    image = torch.from_numpy(subject.make_images(1))
    explain = LIBRARIES[library](model, layer, method)
    if library == OURS and method == "ablationcam":
        explain(image)  # captures the graph for this size of image
    forwards = [time_on_host(lambda: _forward(model, image)).cpu for _ in range(7)]
    kept: list[Tensor] = []
    call = time_on_host(lambda: kept.append(explain(image)))
    forwards += [time_on_host(lambda: _forward(model, image)).cpu for _ in range(7)]
    forward = float(np.median(forwards))
    folder = subject.folder(scratch)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{method}-{library}.npy", kept[0].numpy())
    theirs, reference = (np.load(folder / f"{method}-{each}.npy") for each in (library, OURS))  # ours is measured first
    return {
        "layer": layer,
        "cpu_s": call.cpu / 1e3,
        "forward_cpu_ms": forward,
        "forwards": call.cpu / forward,
        "agreement": compare_maps(theirs, reference),
    }


def _build_network(subject: Subject) -> tuple[nn.Module, str]:
    model = build_out_of_place(subject)
    explainable = subject.explainable(model)
    explainable(torch.from_numpy(subject.make_images(1)))
    layer = explainable.target_layer
    assert layer is not None
    return model, layer


@torch.no_grad()
def _forward(model: nn.Module, image: Tensor) -> Tensor:
    scores: Tensor = model(image)
    return scores


def to_markdown(rows: dict[str, Row]) -> str:
    """Write the ratio to the plain forward for each library."""
    good = tables.select_measured(rows)
    head = ["network", "method", "library", "batch 1", "batch 8", "working memory", "map", "correlation"]
    lines = []
    for row in good.values():
        agreement = row["agreement"]
        batches = row.get("batches", {})
        one = tables.format_ratio(batches["1"]) if batches else f"{row['forwards']:.0f}"
        memory = row.get("memory")
        used = _format_working_memory(memory, row["library"]) if memory else ""
        lines.append(
            [row["model"], row["method"], row["library"], one, tables.format_ratio(batches.get("8")),
             used, tables.format_scientific(agreement["cam"]), tables.format_correlation(agreement["correlation"])]
        )  # fmt: skip
    return tables.make_table(head, lines) + tables.list_failed(rows)


def _format_working_memory(memory: Mapping[str, Mapping[str, float]], library: str) -> str:
    used = [memory[name]["peak_mib"] - memory[name]["before_mib"] for name in (library, "plain")]
    return f"{used[0] / max(used[1], 1.0):.2f}"


SUITE = Suite("What do other libraries cost, and do the maps agree?", list_tasks, to_markdown)
