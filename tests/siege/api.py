"""Arguments that nobody expects, for every public call: an answer, or an error that says what was got and expected."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import explainable_model as xm
from explainable_model import targets
from explainable_model.errors import ExplainableModelError
from explainable_model.imaging.overlay import heatmap, overlay
from explainable_model.imaging.sheets import panel
from tests.siege.cells import Tally
from tests.support.nets import TinyResNet, seeded

OWN = "explainable_model"
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 1 << 70), st.floats(), st.text(max_size=8), st.binary(max_size=4),
    st.sampled_from(["layer1", "layer2", "gradcam", "nothing", "", "\0", "é" * 300, "minmax", "max", "none"]),
)  # fmt: skip
ARRAYS = st.sampled_from(
    [
        np.zeros((1, 3, 8, 8), np.float32), np.zeros((0, 3, 8, 8), np.float32), np.zeros((8, 8, 3), np.uint8),
        np.full((1, 3, 8, 8), np.nan, np.float32), np.zeros((1, 3, 8, 8), "U1"), np.zeros((), np.float32),
        np.zeros((2, 2)), np.zeros((0, 4)), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.int64),
        torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.complex64),
        torch.zeros(1, 3, 8, 8, requires_grad=True), torch.zeros(0, 3, 8, 8), torch.tensor([1]), torch.tensor(-2),
        torch.zeros(1, 3, 8, 8).to_sparse(), torch.zeros(1, 3, 0, 8), torch.full((1, 3, 8, 8), torch.inf),
    ]
)  # fmt: skip
THINGS = st.one_of(
    SCALARS, ARRAYS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=4), SCALARS, max_size=2)
)
KEYWORDS = (
    "target_layer", "method", "target", "top_k", "normalize", "upsample", "signed", "shared_scale", "size", "augment",
    "smooth", "options", "output", "call", "frames", "chunk_size", "progress", "fusion", "example", "reshape_transform",
)  # fmt: skip
EXPORT_KEYWORDS = (
    "precision", "opset", "profile", "preprocess", "class_names", "pixels", "output_kind", "format", "render",
)  # fmt: skip


def run(folder: Path, examples: int, chosen_seed: int = 0) -> dict[str, Any]:
    """Call each public name with ``examples`` draws of arguments."""
    return {name: _siege(name, call, examples, chosen_seed) for name, call in make_calls(folder).items()}


def _siege(name: str, call: Callable[[Any], Any], examples: int, chosen_seed: int) -> dict[str, Any]:
    tally = Tally()

    @seed(chosen_seed)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        drawn: list[Any] = []

        def draw(strategy: Any = THINGS) -> Any:
            drawn.append(data.draw(strategy))
            return drawn[-1]

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(draw)
        except Exception as error:
            outcome = judge(error)
            tally.add(outcome, f"{name}({describe(drawn)})", f"{type(error).__name__}: {str(error)[:160]}")
        else:
            tally.add("answered", name)

    attack()
    return tally.to_record()


def judge(error: Exception) -> str:
    """Whether an error tells the user what is wrong: one of ours, or a TypeError or ValueError that our code raised."""
    if isinstance(error, ExplainableModelError):
        return "refused" if str(error).strip() else "foreign"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_by = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    own = raised_by.split(".")[0] in (OWN, "tests")  # a wrong number of arguments is raised where the call stands
    return "refused" if own and isinstance(error, TypeError | ValueError) and str(error).strip() else "foreign"


def describe(values: list[Any]) -> str:
    """What was drawn, in a line."""
    return ", ".join(
        f"{type(value).__name__}{tuple(value.shape)}" if hasattr(value, "shape") else repr(value)[:60]
        for value in values
    )


def make_calls(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """The public calls, each as a function of what draws its arguments."""
    network = seeded(TinyResNet(3))
    plain = xm.ExplainableModel(network, "layer2")
    image = torch.zeros(1, 3, 8, 8)
    lowered = xm.lower(plain, torch.zeros(1, 3, 16, 16))
    artifact = xm.export(plain, folder / "api.onnx", torch.randn(1, 3, 16, 16), class_names=list("abc"))
    session = xm.load(artifact)
    photo = folder / "photo.png"
    _save(photo)
    keyword = st.sampled_from(KEYWORDS)
    return {
        "ExplainableModel": lambda draw: xm.ExplainableModel(network, **{draw(keyword): draw()})(image),
        "ExplainableModel.__call__": lambda draw: plain(draw(), draw()),
        "find_layers": lambda draw: xm.find_layers(network, draw()),
        "lower": lambda draw: xm.lower(plain, draw(st.one_of(ARRAYS, SCALARS))),
        "LoweredModel.__call__": lambda draw: lowered(draw(ARRAYS), draw()),
        "Session.__call__": lambda draw: session(draw(), draw()),
        "load": lambda draw: xm.load(draw(), threads=draw()),
        "read_metadata": lambda draw: xm.read_metadata(draw()),
        "export": lambda draw: xm.export(draw(), draw(), draw()),
        "export keywords": lambda draw: xm.export(
            plain, draw(st.sampled_from([folder / "x.onnx", folder / "x.nothing", folder, ""])), image,
            **{draw(st.sampled_from(EXPORT_KEYWORDS)): draw()},
        ),
        "Preprocess": lambda draw: xm.Preprocess(draw(), mean=draw(), std=draw(), resize=draw()),
        "heatmap": lambda draw: heatmap(draw(), draw()),
        "overlay": lambda draw: overlay(_open(photo), draw(), box=draw(), alpha=draw(), threshold=draw()),
        "panel": lambda draw: panel(_open(photo), np.zeros((4, 4)), draw(), draw()),
        "targets": lambda draw: xm.ExplainableModel(
            network, "layer2", target=getattr(targets, draw(st.sampled_from(sorted(targets.__all__))))(draw())
        )(image),
    }  # fmt: skip


def _save(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (20, 16), "red").save(path)


def _open(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as photo:
        return photo.copy()
