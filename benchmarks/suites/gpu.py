"""Time the eager wrapper and peers on a GPU: with events, in several precisions, with and without copies.

``--device cpu`` runs the same code with the processor's clock; it proves only that the code runs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import tables
from benchmarks.artifacts import compare_maps
from benchmarks.isolation import Figures, MeasurementError, run_isolated
from benchmarks.results import Row
from benchmarks.subjects import SIZE, Subject, build_out_of_place
from benchmarks.suites.peers import LIBRARIES, OURS
from benchmarks.suites.suite import QUICK_SIZE, Settings, Suite, Task
from benchmarks.timing import Effort, Sample, measure_pairs, time_on_host

GPU_MODELS = ("resnet50", "mobilenet_v3_large", "convnext_tiny", "vit_b_16")
BATCHES = (1, 8, 32, 128)
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPU_PRECISIONS = ("fp32", "bf16")


def list_tasks(settings: Settings) -> list[Task]:
    """One row for each network, precision, library and batch."""
    cpu = settings.device == "cpu"
    models = settings.choose_models(("resnet18",) if cpu else GPU_MODELS)
    found = []
    for model in models:
        for precision in CPU_PRECISIONS if cpu else PRECISIONS:
            # The other libraries do not convert autocast's tensors, and for transformers they need a user's function.
            libraries = LIBRARIES if precision in ("fp32", "tf32") and not model.startswith("vit") else (OURS,)
            for library in libraries:
                for batch in BATCHES[:2] if cpu else BATCHES:
                    key = f"{settings.device}/{model}/{precision}/{library}/{batch}"
                    subject = Subject(model, size=QUICK_SIZE if cpu else SIZE)
                    found.append(Task(key, partial(_measure, subject, precision, library, batch, settings)))
    return found


def _measure(subject: Subject, precision: str, library: str, batch: int, settings: Settings) -> Row:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MeasurementError("this machine has no GPU; --device cpu proves that the suite runs")
    figures = run_isolated(
        measure_on_device, subject, precision, library, batch, settings.choose_effort(), settings.device
    )
    about = {"model": subject.model, "precision": precision, "library": library, "batch": batch}
    return {**about, "device": settings.device, **figures}


def measure_on_device(
    subject: Subject, precision: str, library: str, batch: int, effort: Effort, device: str
) -> Figures:
    """Time plain forward and explanation in turn: with the image on the device, and from and to host memory."""
    _set_precision(precision)
    model = build_out_of_place(subject).to(device, memory_format=torch.channels_last)
    host = torch.from_numpy(subject.make_images(batch))
    image = host.to(device).contiguous(memory_format=torch.channels_last)
    explainable = subject.explainable(model)
    reference = explainable(image)
    layer = explainable.target_layer
    assert layer is not None
    explain = LIBRARIES[library](model, layer, "gradcam")
    amp = torch.autocast(device, dtype=AMP.get(precision, torch.bfloat16), enabled=precision in AMP)
    clock = _time_with_events if device == "cuda" else time_on_host

    def forward(pixels: Tensor = image) -> Tensor:
        with torch.no_grad(), amp:
            scores: Tensor = model(pixels)
        return scores

    def explained(pixels: Tensor = image) -> Tensor:
        with amp:
            return explain(pixels)

    figures: dict[str, Any] = {"layer": layer, "device_name": _read_device_name(device)}
    figures["agreement"] = compare_maps(_copy_to_host(explained()), _copy_to_host(reference.cam))
    figures["resident"] = measure_pairs(forward, explained, effort, clock)
    figures["with_copies"] = measure_pairs(
        lambda: forward(host.to(device)).float().cpu(), lambda: explained(host.to(device)).float().cpu(), effort, clock
    )
    figures["memory_mib"] = {
        name: _measure_peak(run, device) for name, run in (("plain", forward), ("explained", explained))
    }
    figures["captured"] = _can_capture(partial(explainable, class_idx=None), image) if library == OURS else None
    return figures


def _set_precision(precision: str) -> None:
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


def _time_with_events(run: Callable[[], object]) -> Sample:
    """Time one call between synchronizations: wall clock, and as ``cpu`` the device's time between two events."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()

    def record() -> None:
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()

    return Sample(time_on_host(record).wall, begin.elapsed_time(end))


def _measure_peak(run: Callable[[], object], device: str) -> float | None:
    """The peak device memory of a call above the memory in use before, in MiB; ``None`` on a CPU."""
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before) / 2**20


def _can_capture(explain: Callable[[Tensor], Any], image: Tensor) -> bool | None:
    """Whether a CUDA graph can capture the call, which any wait for the device prevents."""
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


def _read_device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def _copy_to_host(maps: Tensor) -> Any:
    return maps.detach().float().cpu().numpy()


def to_markdown(rows: dict[str, Row]) -> str:
    """Write one line per row of a GPU; of the rows of a CPU write only their number."""
    on_gpu = {key: row for key, row in tables.select_measured(rows).items() if row["device"] == "cuda"}
    on_cpu = sum(row.get("device") == "cpu" for row in tables.select_measured(rows).values())
    head = ["device", "network", "precision", "library", "batch", "ratio", "with copies", "plain ms", "explained ms",
            "memory", "map", "CUDA graph"]  # fmt: skip
    lines = []
    for row in on_gpu.values():
        memory, agreement = row["memory_mib"], row["agreement"]
        captured = {True: "yes", False: "no", None: ""}[row["captured"]]
        lines.append(
            [row["device_name"], row["model"], row["precision"], row["library"], row["batch"],
             tables.format_ratio(row["resident"]), tables.format_ratio(row["with_copies"], "ratio_wall"),
             tables.format_milliseconds(row["resident"], "plain"),
             tables.format_milliseconds(row["resident"], "explained"),
             f"{memory['explained'] / max(memory['plain'], 1.0):.2f}", tables.format_scientific(agreement["cam"]),
             captured]
        )  # fmt: skip
    if not lines:
        lines = [["not measured: no GPU was available", *[""] * (len(head) - 1)]]
    proof = f"\n{on_cpu} rows were run with `--device cpu`, which proves that the suite runs.\n" if on_cpu else ""
    return tables.make_table(head, lines) + proof + tables.list_failed(rows)


SUITE = Suite("What does an explanation cost on a GPU?", list_tasks, to_markdown)
