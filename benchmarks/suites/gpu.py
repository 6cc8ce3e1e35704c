"""The eager wrapper and peers on a GPU: events, synchronization, precisions, with and without copies.

With ``--device cpu`` the same code runs with the processor's clock, which proves that it runs and nothing else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import tables
from benchmarks.artifacts import compare_maps
from benchmarks.isolation import Figures, MeasurementError, isolated
from benchmarks.results import Row
from benchmarks.subjects import SIZE, Subject, build_out_of_place
from benchmarks.suites.peers import LIBRARIES, OURS
from benchmarks.suites.suite import QUICK_SIZE, Settings, Suite, Task
from benchmarks.timing import Effort, Sample, host_clock, measure_pairs

GPU_MODELS = ("resnet50", "mobilenet_v3_large", "convnext_tiny", "vit_b_16")
BATCHES = (1, 8, 32, 128)
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPU_PRECISIONS = ("fp32", "bf16")


def tasks(settings: Settings) -> list[Task]:
    """One row for each network, precision, library and batch."""
    cpu = settings.device == "cpu"
    models = settings.chosen(("resnet18",) if cpu else GPU_MODELS)
    found = []
    for model in models:
        for precision in CPU_PRECISIONS if cpu else PRECISIONS:
            # The others do not convert what autocast makes, and transformers need a function of the user's there.
            libraries = LIBRARIES if precision in ("fp32", "tf32") and not model.startswith("vit") else (OURS,)
            for library in libraries:
                for batch in BATCHES[:2] if cpu else BATCHES:
                    key = f"{settings.device}/{model}/{precision}/{library}/{batch}"
                    subject = Subject(model, size=QUICK_SIZE if cpu else SIZE)
                    found.append(Task(key, partial(_measure, subject, precision, library, batch, settings)))
    return found


def _measure(subject: Subject, precision: str, library: str, batch: int, settings: Settings) -> Row:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MeasurementError("there is no GPU here; --device cpu proves that the suite runs")
    figures = isolated(measure_on_device, subject, precision, library, batch, settings.effort(), settings.device)
    about = {"model": subject.model, "precision": precision, "library": library, "batch": batch}
    return {**about, "device": settings.device, **figures}


def measure_on_device(
    subject: Subject, precision: str, library: str, batch: int, effort: Effort, device: str
) -> Figures:
    """Plain forward and explanation in turn, with the image on the device, and from and to host memory."""
    _set_precision(precision)
    model = build_out_of_place(subject).to(device, memory_format=torch.channels_last)
    host = torch.from_numpy(subject.images(batch))
    image = host.to(device).contiguous(memory_format=torch.channels_last)
    explainable = subject.explainable(model)
    reference = explainable(image)
    layer = explainable.target_layer
    assert layer is not None
    explain = LIBRARIES[library](model, layer, "gradcam")
    amp = torch.autocast(device, dtype=AMP.get(precision, torch.bfloat16), enabled=precision in AMP)
    clock = _event_clock if device == "cuda" else host_clock

    def forward(pixels: Tensor = image) -> Tensor:
        with torch.no_grad(), amp:
            scores: Tensor = model(pixels)
        return scores

    def explained(pixels: Tensor = image) -> Tensor:
        with amp:
            return explain(pixels)

    figures: dict[str, Any] = {"layer": layer, "device_name": _device_name(device)}
    figures["agreement"] = compare_maps(_on_host(explained()), _on_host(reference.cam))
    figures["resident"] = measure_pairs(forward, explained, effort, clock)
    figures["with_copies"] = measure_pairs(
        lambda: forward(host.to(device)).float().cpu(), lambda: explained(host.to(device)).float().cpu(), effort, clock
    )
    figures["memory_mib"] = {name: _peak(run, device) for name, run in (("plain", forward), ("explained", explained))}
    figures["captured"] = _captures(partial(explainable, class_idx=None), image) if library == OURS else None
    return figures


def _set_precision(precision: str) -> None:
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


def _event_clock(run: Callable[[], object]) -> Sample:
    """Wall clock from a synchronized device to the next, and the device's own time between two events as ``cpu``."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()

    def recorded() -> None:
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()

    return Sample(host_clock(recorded).wall, begin.elapsed_time(end))


def _peak(run: Callable[[], object], device: str) -> float | None:
    """Peak device memory of a call above what lay there before, in MiB; ``None`` on a CPU."""
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before) / 2**20


def _captures(explain: Callable[[Tensor], Any], image: Tensor) -> bool | None:
    """Whether the call can be captured in a CUDA graph, which any wait for the device would prevent."""
    if image.device.type != "cuda":
        return None
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            explain(image)
    torch.cuda.current_stream().wait_stream(side)
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            explain(image)
    except RuntimeError:
        return False
    return True


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def _on_host(maps: Tensor) -> Any:
    return maps.detach().float().cpu().numpy()


def markdown(rows: dict[str, Row]) -> str:
    """One line per row on a GPU; those on a CPU only say that the suite ran."""
    on_gpu = {key: row for key, row in tables.measured(rows).items() if row["device"] == "cuda"}
    on_cpu = sum(row.get("device") == "cpu" for row in tables.measured(rows).values())
    head = ["device", "network", "precision", "library", "batch", "ratio", "with copies", "plain ms", "explained ms",
            "memory", "map", "CUDA graph"]  # fmt: skip
    lines = []
    for row in on_gpu.values():
        memory, agreement = row["memory_mib"], row["agreement"]
        captured = {True: "yes", False: "no", None: ""}[row["captured"]]
        lines.append(
            [row["device_name"], row["model"], row["precision"], row["library"], row["batch"],
             tables.ratio(row["resident"]), tables.ratio(row["with_copies"], "ratio_wall"),
             tables.milliseconds(row["resident"], "plain"), tables.milliseconds(row["resident"], "explained"),
             f"{memory['explained'] / max(memory['plain'], 1.0):.2f}", tables.scientific(agreement["cam"]), captured]
        )  # fmt: skip
    if not lines:
        lines = [["not measured: no GPU was at hand", *[""] * (len(head) - 1)]]
    proof = f"\n{on_cpu} rows were run with `--device cpu`, which proves that the suite runs.\n" if on_cpu else ""
    return tables.table(head, lines) + proof + tables.failed(rows)


SUITE = Suite("What does an explanation cost on a GPU?", tasks, markdown)
