"""The eager wrapper beside pytorch-grad-cam, torchcam and captum: same network, layer and images."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import tables
from benchmarks.artifacts import compare_maps
from benchmarks.isolation import Figures, isolated
from benchmarks.results import Row
from benchmarks.subjects import TOP_K, Subject, build_out_of_place
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import Effort, host_clock, measure_memory, measure_pairs

CONVOLUTIONAL = ("resnet18", "resnet50", "mobilenet_v3_large", "efficientnet_b0", "vgg16_bn")
BATCHES = (1, 8)
OURS = "explainable_model"
MANY_PASSES = ("scorecam", "ablationcam")
Explain: TypeAlias = Callable[[Tensor], Tensor]  # (N, C, H, W) -> normalized maps (N, H, W)


def ours(model: nn.Module, layer: str, method: str) -> Explain:
    """This library's eager wrapper."""
    from explainable_model import ExplainableModel

    explainable = ExplainableModel(model, layer, method)
    return lambda image: explainable(image).cam


def grad_cam(model: nn.Module, layer: str, method: str) -> Explain:
    """pytorch-grad-cam, of the predicted class."""
    import pytorch_grad_cam

    kinds = {"gradcam": "GradCAM", "scorecam": "ScoreCAM", "ablationcam": "AblationCAM"}
    cam = getattr(pytorch_grad_cam, kinds[method])(model, [model.get_submodule(layer)])
    return lambda image: torch.from_numpy(cam(input_tensor=image, targets=None))


def torchcam(model: nn.Module, layer: str, method: str) -> Explain:
    """torchcam, of the predicted class."""
    import torchcam.methods

    extractor = {"gradcam": torchcam.methods.GradCAM, "scorecam": torchcam.methods.ScoreCAM}[method](model, layer)

    def explain(image: Tensor) -> Tensor:
        scores = model(image)
        maps = extractor(scores.argmax(1).tolist(), scores)[0]
        return _upsampled(maps, image)

    return explain


def captum(model: nn.Module, layer: str, method: str) -> Explain:
    """captum's layer Grad-CAM, of the predicted class."""
    from captum.attr import LayerAttribution, LayerGradCam

    attribution = LayerGradCam(model, model.get_submodule(layer))

    def explain(image: Tensor) -> Tensor:
        with torch.no_grad():
            target = model(image).argmax(1)
        maps = attribution.attribute(image, target=target, relu_attributions=True)
        return _normalized(LayerAttribution.interpolate(maps, image.shape[2:], "bilinear")[:, 0].detach())

    return explain


def _upsampled(maps: Tensor, image: Tensor) -> Tensor:
    size = image.shape[2:]
    return torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0].detach()


def _normalized(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


LIBRARIES: Mapping[str, Callable[[nn.Module, str, str], Explain]] = {
    OURS: ours,
    "pytorch-grad-cam": grad_cam,
    "torchcam": torchcam,
    "captum": captum,
}


def tasks(settings: Settings) -> list[Task]:
    """Grad-CAM of each network and library; several classes; the methods of many passes."""
    found = []
    for model in settings.chosen(CONVOLUTIONAL):
        for library in LIBRARIES:
            key = f"{model}/gradcam/{library}"
            found.append(Task(key, partial(_measure_gradcam, Subject(model, size=settings.size), library, settings)))
    for model in settings.chosen(("resnet18", "mobilenet_v3_large")):
        subject = Subject(model, size=settings.size)
        for library in (OURS, "pytorch-grad-cam"):
            found.append(Task(f"{model}/five classes/{library}", partial(_measure_several, subject, library, settings)))
    for model in settings.chosen(("resnet18", "mobilenet_v3_large")):
        for method in MANY_PASSES:
            for library in (OURS, "pytorch-grad-cam", *(["torchcam"] if method == "scorecam" else [])):
                measure = partial(_measure_many_passes, Subject(model, size=settings.size), library, method, settings)
                found.append(Task(f"{model}/{method}/{library}", measure))
    return found


def _measure_gradcam(subject: Subject, library: str, settings: Settings) -> Row:
    figures = isolated(measure_library, subject, library, settings.effort(), settings.threads, threads=settings.threads)
    figures["memory"] = {
        name: isolated(measure_library_memory, subject, name, settings.threads, threads=settings.threads)
        for name in ("plain", library)
    }
    return {"model": subject.model, "method": "gradcam", "library": library, **figures}


def measure_library(subject: Subject, library: str, effort: Effort, threads: int) -> Figures:
    """Plain forward and library in turn, and its maps beside this library's."""
    torch.set_num_threads(threads)
    model, layer = _network(subject)
    explain = LIBRARIES[library](model, layer, "gradcam")
    batches = {}
    for batch in BATCHES:
        image = torch.from_numpy(subject.images(batch))
        batches[str(batch)] = measure_pairs(
            lambda image=image: _forward(model, image), lambda image=image: explain(image), effort
        )  # type: ignore[misc]
    image = torch.from_numpy(subject.images(2))
    agreement = compare_maps(explain(image).numpy(), ours(model, layer, "gradcam")(image).numpy())
    return {"layer": layer, "batches": batches, "agreement": agreement}


def measure_library_memory(subject: Subject, library: str, threads: int) -> Figures:
    """One library alone, or the plain forward, at the largest batch."""
    torch.set_num_threads(threads)
    model, layer = _network(subject)
    image = torch.from_numpy(subject.images(BATCHES[-1]))
    if library == "plain":
        return measure_memory(lambda: _forward(model, image))
    explain = LIBRARIES[library](model, layer, "gradcam")
    return measure_memory(lambda: explain(image))


def _measure_several(subject: Subject, library: str, settings: Settings) -> Row:
    figures = isolated(measure_several, subject, library, settings.effort(), settings.threads, threads=settings.threads)
    return {"model": subject.model, "method": "five classes", "library": library, **figures}


def measure_several(subject: Subject, library: str, effort: Effort, threads: int) -> Figures:
    """Maps of the five best classes of one image."""
    torch.set_num_threads(threads)
    model, layer = _network(subject)
    image = torch.from_numpy(subject.images(1))
    run = _several(library, model, layer)
    ours_run = _several(OURS, model, layer)
    pairs = measure_pairs(lambda: _forward(model, image), lambda: run(image), effort)
    agreement = compare_maps(run(image).numpy(), ours_run(image).numpy())
    return {"layer": layer, "batches": {"1": pairs}, "agreement": agreement}


def _several(library: str, model: nn.Module, layer: str) -> Explain:
    """``(1, C, H, W) -> (5, H, W)``."""
    if library == OURS:
        from explainable_model import ExplainableModel

        explainable = ExplainableModel(model, layer, top_k=TOP_K)
        return lambda image: explainable(image).cam[0]
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = pytorch_grad_cam.GradCAM(model, [model.get_submodule(layer)])

    def explain(image: Tensor) -> Tensor:
        classes = _forward(model, image).topk(TOP_K).indices[0].tolist()
        copies = image.expand(TOP_K, -1, -1, -1)  # as a batch, which is faster than a loop
        return torch.from_numpy(cam(input_tensor=copies, targets=[ClassifierOutputTarget(c) for c in classes]))

    return explain


def _measure_many_passes(subject: Subject, library: str, method: str, settings: Settings) -> Row:
    figures = isolated(
        measure_many_passes, subject, library, method, settings.threads, settings.scratch, threads=settings.threads,
        timeout=3600,
    )  # fmt: skip
    return {"model": subject.model, "method": method, "library": library, **figures}


def measure_many_passes(subject: Subject, library: str, method: str, threads: int, scratch: Path) -> Figures:
    """One call, and plain forwards before and after it."""
    torch.set_num_threads(threads)
    model, layer = _network(subject)
    image = torch.from_numpy(subject.images(1))
    explain = LIBRARIES[library](model, layer, method)
    if library == OURS and method == "ablationcam":
        explain(image)  # captures the graph, once for each size of image
    forwards = [host_clock(lambda: _forward(model, image)).cpu for _ in range(7)]
    kept: list[Tensor] = []
    call = host_clock(lambda: kept.append(explain(image)))
    forwards += [host_clock(lambda: _forward(model, image)).cpu for _ in range(7)]
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


def _network(subject: Subject) -> tuple[nn.Module, str]:
    model = build_out_of_place(subject)
    explainable = subject.explainable(model)
    explainable(torch.from_numpy(subject.images(1)))
    layer = explainable.target_layer
    assert layer is not None
    return model, layer


@torch.no_grad()
def _forward(model: nn.Module, image: Tensor) -> Tensor:
    scores: Tensor = model(image)
    return scores


def markdown(rows: dict[str, Row]) -> str:
    """Ratio to the plain forward for each library."""
    good = tables.measured(rows)
    head = ["network", "method", "library", "batch 1", "batch 8", "working memory", "map", "correlation"]
    lines = []
    for row in good.values():
        agreement = row["agreement"]
        batches = row.get("batches", {})
        one = tables.ratio(batches["1"]) if batches else f"{row['forwards']:.0f}"
        memory = row.get("memory")
        used = _working_memory(memory, row["library"]) if memory else ""
        lines.append(
            [row["model"], row["method"], row["library"], one, tables.ratio(batches.get("8")),
             used, tables.scientific(agreement["cam"]), tables.correlation(agreement["correlation"])]
        )  # fmt: skip
    return tables.table(head, lines) + tables.failed(rows)


def _working_memory(memory: Mapping[str, Mapping[str, float]], library: str) -> str:
    used = [memory[name]["peak_mib"] - memory[name]["before_mib"] for name in (library, "plain")]
    return f"{used[0] / max(used[1], 1.0):.2f}"


SUITE = Suite("What do other libraries cost, and do the maps agree?", tasks, markdown)
