"""Photos in, pictures and answers out, by a network or by an artifact. Needs no torch for ONNX."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import ExplainableModelError, InputError, ModelError
from explainable_model.explainer.answers import (
    Answer,
    _caption,
    _first,
    asked_classes,
    each_class,
    found_classes,
    label,
)
from explainable_model.explanation import Explanation
from explainable_model.imaging.overlay import OverlayStyle, centred, hottest_point, overlay
from explainable_model.imaging.preprocess import AsDecoded, Box, Preprocess
from explainable_model.imaging.sheets import panel, save_picture
from explainable_model.imaging.tiles import Tile, tile_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from explainable_model.networks.named import NamedModel


@dataclass(frozen=True)
class Explainer:
    """Whatever predicts and explains one image.

    Attributes:
        run: ``(image (1, C, H, W), class_idx (1,) or None) -> Explanation`` of arrays for one image.
        preprocess: from a photo to the image.
        class_names: one per class, if known.
        top_k: how many classes it explains at once; ``None`` for one.
        signed: whether zero lies in the middle of what its maps can be.
    """

    run: Callable[[NDArray[Any], NDArray[np.int64] | None], Answer]
    preprocess: Preprocess | AsDecoded
    class_names: Sequence[str] | None
    top_k: int | None = None
    signed: bool = False


def artifact_explainer(path: Path) -> Explainer:
    """An artifact in its own runtime.

    Raises:
        ArtifactError, MissingRuntimeError: as ``load``.
        InputError: it does not say how a photo becomes its input.
    """
    from explainable_model.runtime import load

    session = load(path)
    metadata = session.metadata
    preparation = metadata.preparation
    if preparation is None:
        raise InputError(
            f"{path} does not say how a photo becomes its input; export it with preprocess=Preprocess(...), or with "
            "a network that is known to explainable_model.models."
        )
    copies = metadata.batch or 1

    def run(image: NDArray[Any], class_idx: NDArray[np.int64] | None) -> Answer:
        batch = np.repeat(image.astype(metadata.array_dtype), copies, 0)
        asked = None if class_idx is None else asked_classes(np.repeat(class_idx, copies), metadata.top_k)
        return _first(session(batch, asked))

    return Explainer(run, preparation, metadata.class_names, metadata.top_k, metadata.diverging)


def model_explainer(
    named: "NamedModel", layer: str | Sequence[str] | None = None, method: str = "gradcam", **options: Any
) -> Explainer:
    """A network with autograd; further options are those of ``ExplainableModel``.

    Raises:
        LayerError, ModelError: as ``ExplainableModel``.
        InputError: nobody knows how a photo becomes its input.
    """
    import torch

    from explainable_model.model import ExplainableModel

    if named.preprocess is None:
        raise InputError(
            f"Nothing is known about how a photo becomes the input of this {type(named.model).__name__}; let the "
            "factory return explainable_model.models.NamedModel(model, Preprocess(...), class_names)."
        )
    explainable = ExplainableModel(named.model, layer, method, **options)
    plan = explainable.plan
    dtype = dtype_of(named.model)

    def run(image: NDArray[Any], class_idx: NDArray[np.int64] | None) -> Answer:
        pixels = torch.from_numpy(image).to(dtype)
        classes = None if class_idx is None else torch.from_numpy(asked_classes(class_idx, plan.top_k))
        with network_failures(named.model, tuple(pixels.shape)):
            logits, explained, cam = explainable(pixels, classes)
        return _first(Explanation(logits.float().numpy(), explained.numpy(), cam.float().numpy()))

    return Explainer(run, named.preprocess, named.class_names, plan.top_k, plan.postprocess.diverging)


def dtype_of(model: Any) -> Any:
    """The floating point type that a network computes in."""
    import torch

    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def network_failures(model: Any, shape: Sequence[int]) -> Iterator[None]:
    """Say which network failed on what, where its own error is a stranger's."""
    try:
        yield
    except ExplainableModelError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"{type(model).__name__} failed on an image of shape {tuple(shape)}: {error or type(error).__name__}. "
            "Is that the size it was built for?"
        ) from error


def explain_photo(
    explainer: Explainer, photo: "Image", path: Path, class_idx: int | None, look: OverlayStyle, target: Path
) -> dict[str, Any]:
    """Explain one photo and write ``<target>-panel.png`` and ``<target>-overlay.png``.

    Args:
        explainer: what explains it.
        photo: as from ``open_photo``.
        path: where it came from.
        class_idx: the class to explain, the first of several; ``None`` for the predicted.
        look: of the pictures.
        target: an existing folder and the beginning of the file names.

    Returns:
        What was found, for JSON; with ``top_k``, what was found of each class as ``explained``.
    """
    classes = None if class_idx is None else np.asarray([class_idx], np.int64)
    answers = each_class(explainer.run(explainer.preprocess(photo), classes))
    box = explainer.preprocess.box(*photo.size)
    found = [
        {**found_classes(answer, explainer.class_names), "hottest": list(hottest_point(answer.cam[0], box))}
        for answer in answers
    ]
    pictures = _draw(photo, path, answers, found, box, look, explainer)
    files = {
        kind: save_picture(picture, target.with_name(f"{target.name}-{kind}.png")) for kind, picture in pictures.items()
    }
    explained = [{key: value for key, value in each.items() if key != "top"} for each in found]
    return {
        "photo": str(path),
        **found[0],
        **({} if explainer.top_k is None else {"explained": explained}),
        "box": list(box),
        **{kind: str(file) for kind, file in files.items()},
    }


def draw_overlay(photo: "Image", cam: NDArray[Any], box: Box, look: OverlayStyle, *, signed: bool) -> "Image":
    """The photo under one map ``(h, w)``."""
    return overlay(photo, centred(cam) if signed else cam, box=box, **look.keywords(signed=signed))


def _draw(
    photo: "Image",
    path: Path,
    answers: Sequence[Answer],
    found: Sequence[dict[str, Any]],
    box: Box,
    look: OverlayStyle,
    explainer: Explainer,
) -> dict[str, "Image"]:
    """A panel of the one class, or a strip of several; and the overlay of the first."""
    signed = explainer.signed
    overlays = [draw_overlay(photo, answer.cam[0], box, look, signed=signed) for answer in answers]
    if explainer.top_k is not None:
        tiles = [Tile(each, label(words)) for each, words in zip(overlays, found, strict=True)]
        return {"panel": tile_sheet([Tile(photo, path.name), *tiles]), "overlay": overlays[0]}
    cam = centred(answers[0].cam[0]) if signed else answers[0].cam[0]
    drawn = panel(photo, cam, _caption(path, found[0]), box, **look.keywords(signed=signed))
    return {"panel": drawn, "overlay": overlays[0]}


def free_stems(photos: Sequence[Path], out: Path) -> list[str]:
    """One file name each, so that no picture overwrites another photo's, nor a photo itself."""
    taken: set[str] = set()
    inputs = {photo.resolve() for photo in photos}
    stems = []
    for photo in photos:
        stem, number = photo.stem, 1
        while stem.casefold() in taken or any(
            (out / f"{stem}-{k}.png").resolve() in inputs for k in ("panel", "overlay", "methods")
        ):
            number += 1
            stem = f"{photo.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
