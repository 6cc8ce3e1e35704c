"""What each command of the command line does: arguments in, an outcome to print out."""

import argparse
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.console import Console
from explainable_model.errors import ArtifactError, InputError, LayerError, StaticBatchWarning
from explainable_model.recipe import ALL, wrapper_arguments
from explainable_model.recipe import OPTIONS as RECIPE

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.explaining import Explainer
    from explainable_model.exporters.format import Runner
    from explainable_model.metadata import Metadata
    from explainable_model.models import NamedModel
    from explainable_model.overlay import Look
    from explainable_model.verify import Parity

FAILED = 1  # exit code of a verification that did not pass
USAGE = 2  # exit code of a mistake in what was asked for


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        text: for people.
        record: for ``--json``.
        code: exit code.
        errors: what went wrong with a part of the work.
    """

    text: str
    record: dict[str, Any]
    code: int = 0
    errors: Sequence[str] = ()


def demo(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Real weights, real photos, every format."""
    from explainable_model.demo import run_demo
    from explainable_model.overlay import COLORMAP
    from explainable_model.tolerances import TOLERANCES

    report = run_demo(arguments.out, colormap=arguments.colormap or COLORMAP, alpha=arguments.alpha, say=console.say)
    text = f"{report.to_table()}\n\nPictures and artifacts are in {arguments.out}; start with {report.contact_sheet}."
    allowed = TOLERANCES["float32"].cam
    if report.worst <= allowed:
        return Outcome(text, report.to_dict())
    reason = f"an artifact's map differs from the eager network's by {report.worst:.1e}, allowed {allowed:.0e}."
    return Outcome(text, report.to_dict(), FAILED, [reason])


def explain(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Pictures of photos; one that cannot be read does not stop the others."""
    from explainable_model.explaining import free_stems, resolve_class
    from explainable_model.overlay import COLORMAP, Look, check_look
    from explainable_model.preprocess import open_photo

    check_look(arguments.colormap or COLORMAP, arguments.alpha, arguments.threshold)
    look = Look(arguments.colormap, arguments.alpha, arguments.threshold, arguments.hide)
    run, class_names, say = _explaining(arguments, console)
    class_idx = resolve_class(arguments.class_wanted, class_names)
    out = _folder(arguments.out)
    found, failed = [], []
    work = list(zip(arguments.photos, free_stems(arguments.photos, out), strict=True))
    for path, stem in console.each(work, "explaining"):
        try:
            photo = open_photo(path)
        except InputError as error:
            failed.append({"photo": str(path), "error": str(error)})
        else:
            found.append(run(photo, path, class_idx, look, out / stem))
    code = USAGE if failed else 0
    record = {"photos": found, "errors": failed}
    return Outcome("\n".join(map(say, found)), record, code, [each["error"] for each in failed])


def _explaining(
    arguments: argparse.Namespace, console: Console
) -> "tuple[Callable[..., dict[str, Any]], Sequence[str] | None, Callable[[dict[str, Any]], str]]":
    """What explains one photo, the names of its classes, and how it is said."""
    from explainable_model.explaining import artifact_explainer, explain_photo, label, model_explainer

    if arguments.method == ALL and arguments.artifact is None:
        return _explaining_with_all(arguments, console)
    if arguments.artifact is None:
        named = _load_network(arguments, console)
        wanted = wrapper_arguments(arguments)
        explainer = model_explainer(named, wanted.pop("target_layer", None), **wanted)
    else:
        why = "an artifact has that inside"
        _refuse(arguments, "checkpoint", "pretrained", "classes", *RECIPE, why=why)
        explainer = artifact_explainer(arguments.artifact)

    def say(each: dict[str, Any]) -> str:
        classes = "; ".join(label(one) for one in each.get("explained", [each]))
        return f"{each['photo']}: {classes} -> {each['panel']}"

    return functools.partial(explain_photo, explainer), explainer.class_names, say


def _explaining_with_all(
    arguments: argparse.Namespace, console: Console
) -> "tuple[Callable[..., dict[str, Any]], Sequence[str] | None, Callable[[dict[str, Any]], str]]":
    """The same for a sheet of every method."""
    from explainable_model.explaining import model_explainer
    from explainable_model.method_sheet import explain_with_all, in_words
    from explainable_model.methods import METHODS

    if arguments.option or arguments.top_k:
        raise InputError(
            f"--method {ALL} explains one class with each method's own options; leave out --option, --top-k."
        )
    named = _load_network(arguments, console)

    def explainer_of(method: str) -> "Explainer":
        console.say(f"{METHODS[method].title} ({list(METHODS).index(method) + 1} of {len(METHODS)})")
        wanted = wrapper_arguments(arguments, method)
        return model_explainer(named, wanted.pop("target_layer", None), **wanted)

    def run(*photo: Any) -> dict[str, Any]:
        found = explain_with_all(explainer_of, *photo)
        for failure in found["failures"]:
            console.warn(f"{METHODS[failure['method']].title} does not fit this network: {failure['error']}")
        return found

    return run, named.class_names, in_words


def _refuse(arguments: argparse.Namespace, *names: str, why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if vars(arguments)[name]]
    if given:
        raise InputError(f"{', '.join(given)} belongs to --model, which was not given; {why}.")


def export(arguments: argparse.Namespace, console: Console) -> Outcome:
    """One artifact, compared with the network before it gets its name."""
    from explainable_model.explaining import network_failures
    from explainable_model.exporters import export as write
    from explainable_model.exporters import format_by_suffix, format_of
    from explainable_model.model import ExplainableModel
    from explainable_model.models import resized
    from explainable_model.runtime import read_metadata

    path: Path = arguments.out
    fmt = format_of(path, arguments.format)
    if format_by_suffix(path) is not fmt:
        fitting = path.with_name(path.name.split(".")[0] + fmt.suffixes[0])
        raise ArtifactError(
            f"{path} is to be of format {fmt.name}, whose files end in {' or '.join(fmt.suffixes)}: the suffix tells "
            f"every reader the format. Expected for example -o {fitting}."
        )
    named = _load_network(arguments, console)
    image = _example_image(named, arguments.size, arguments.batch or 1)
    preprocess = named.preprocess and resized(named.preprocess, (image.shape[2], image.shape[3]))
    explainable = ExplainableModel(named.model, **wrapper_arguments(arguments))
    with network_failures(named.model, image.shape):
        explainable(image)
    console.say(f"lowering, exporting to {fmt.name} and comparing with the network")
    with _said_in_one_line(console), console.counting() as progress:
        write(
            explainable,
            path,
            image,
            format=fmt.name,
            preprocess=preprocess,
            class_names=named.class_names,
            dynamic_size=arguments.dynamic_size,
            dynamic_batch=arguments.batch is None,
            pixels=arguments.pixels,
            render=_look_of_export(arguments),
            profile=arguments.profile,
            precision=arguments.precision,
            calibration=arguments.calibrate,
            progress=progress,
        )
    metadata = read_metadata(path)
    size = path.stat().st_size
    text = f"{path}: {_headline(metadata)}, {_megabytes(size)}. "
    text += "It agrees with the network." if metadata.agreement is None else _agreement(metadata)
    return Outcome(text, {"path": str(path), "bytes": size, **_without_names(metadata)})


def _look_of_export(arguments: argparse.Namespace) -> "Look | None":
    from explainable_model.overlay import ALPHA, Look

    if arguments.render is None and (arguments.colormap or arguments.alpha is not None):
        raise InputError("--colormap and --alpha are for the overlay that --render overlay draws.")
    if arguments.render is None:
        return None
    return Look(arguments.colormap, ALPHA if arguments.alpha is None else arguments.alpha)


def verify(arguments: argparse.Namespace, console: Console) -> Outcome:
    """An artifact against its recorded answer, and against the network where one is named."""
    from explainable_model.exporters import format_of
    from explainable_model.metadata import parse_metadata
    from explainable_model.runtime import read_metadata
    from explainable_model.verify import check_reference

    path: Path = arguments.file
    if arguments.model is None:
        _refuse(arguments, "checkpoint", "pretrained", "classes", why="an artifact has its weights inside")
    read_metadata(path)  # a missing or foreign file is told before any runtime sees it
    runner, text = format_of(path).open(path, None)
    metadata = parse_metadata(text, path)
    console.say(f"running {path}")
    reason = check_reference(metadata, runner)
    record: dict[str, Any] = {"path": str(path), "reference": reason or "agrees"}
    compared = "the recorded answer"
    if arguments.model is not None:
        parity = _parity(arguments, console, metadata, runner)
        record["parity"] = parity.to_dict()
        compared += f" and the network ({parity.images} images: maps within {parity.cam:.1e}, logits within "
        compared += f"{parity.logits:.1e} of the largest)"
        reason = reason or parity.reason
    record.update(passed=not reason, reason=reason)
    if reason:
        return Outcome(f"{path}: FAILED: {reason}", record, FAILED)
    return Outcome(f"{path}: {_headline(metadata)}. It agrees with {compared}.", record)


def _parity(arguments: argparse.Namespace, console: Console, metadata: "Metadata", runner: "Runner") -> "Parity":
    import torch

    from explainable_model.explaining import network_failures
    from explainable_model.exporters.write import with_pixels
    from explainable_model.lowering import lower
    from explainable_model.model import ExplainableModel
    from explainable_model.verify import check_parity

    if metadata.precision == "int8":
        raise InputError(
            f"{arguments.file} is in int8, which agrees with the network on photos alone: see its agreement with "
            "inspect, or leave out --model."
        )
    named = _load_network(arguments, console)
    explainable = ExplainableModel(named.model, **wrapper_options(metadata))
    shape = [metadata.batch or 1, *metadata.network_shape]
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(getattr(torch, metadata.dtype))
    with network_failures(named.model, image.shape):
        logits = explainable(image).logits
    if list(logits.shape[1:]) != metadata.logits_shape[1:]:
        raise InputError(
            f"{arguments.model} returns logits of shape {tuple(logits.shape)}; {arguments.file} was made from a "
            f"network with {tuple(metadata.logits_shape)}. Name the network it was made from."
        )
    console.say("comparing with the network")
    with _said_in_one_line(console):
        lowered = with_pixels(lower(explainable, image), metadata.preprocess, metadata.pixels, metadata.look)
    return check_parity(explainable, lowered, metadata, runner)


def wrapper_options(metadata: "Metadata") -> dict[str, Any]:
    """The arguments of ``ExplainableModel`` that an artifact was made with.

    Raises:
        InputError: it explains something that a record cannot say, such as a function of one's own.
    """
    from explainable_model.targets import ClassScore, target_name

    if metadata.target != target_name(ClassScore()):
        raise InputError(
            f"The artifact explains {metadata.target}, which the command line cannot make; compare it with "
            "explainable_model.verify.check_parity instead, or leave out --model."
        )
    size = metadata.cam_shape[2 - len(metadata.image_shape) :]
    return {
        "target_layer": metadata.target_layers or None,
        "method": metadata.method,
        "options": metadata.options,
        "top_k": metadata.top_k,
        "normalize": metadata.normalize,
        "upsample": metadata.upsample,
        "signed": metadata.signed,
        "shared_scale": metadata.shared_scale,
        "size": None if metadata.upsample == "none" or metadata.pixels or None in size else size,
        "fusion": metadata.fusion,
        "augment": metadata.augment,
    }


def inspect(arguments: argparse.Namespace, console: Console) -> Outcome:
    """What an artifact says about itself."""
    from explainable_model.runtime import read_metadata

    metadata = read_metadata(arguments.file)
    record = metadata.to_dict()
    names, reference = record.pop("class_names"), record.pop("reference")
    if record["preprocess"] and record["preprocess"]["resize"] is None:
        record["preprocess"]["resize"] = "to size, whatever the proportions"
    record["sizes"] = None if metadata.sizes is None else [str(size) for size in metadata.sizes]
    lines = [f"{key}: {_plain(value)}" for key, value in record.items()]
    lines.append(f"class_names: {f'{len(names)}, from {names[0]!r} to {names[-1]!r}' if names else 'not recorded'}")
    lines.append(f"reference answer: {'recorded' if reference else 'not recorded'}")
    return Outcome("\n".join(lines), {"path": str(arguments.file), **metadata.to_dict()})


def layers(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Every layer that has a spatial map, and the one that is taken where none is named."""
    from explainable_model.explaining import network_failures
    from explainable_model.layers import default_layer, find_layers

    named = _load_network(arguments, console)
    image = _example_image(named, arguments.size)
    with network_failures(named.model, image.shape):
        candidates = find_layers(named.model, image)
        try:
            default, reason = default_layer(named.model, image), ""
        except LayerError as error:
            default, reason = None, str(error)
    rows = [("", "layer", "type", "output")]
    rows += [("*" if c.name == default else "", c.name, c.type, " x ".join(map(str, c.shape))) for c in candidates]
    text = f"{columns(rows)}\n* is taken where no layer is named." if default else f"{columns(rows)}\n{reason}"
    found = [{"name": c.name, "type": c.type, "shape": list(c.shape), "layout": c.layout.kind} for c in candidates]
    return Outcome(text, {"model": arguments.model, "image": list(image.shape), "default": default, "layers": found})


def _load_network(arguments: argparse.Namespace, console: Console) -> "NamedModel":
    console.say(f"loading {arguments.model}")
    from explainable_model.models import has_random_weights, load_named_model

    named = load_named_model(
        arguments.model,
        checkpoint=arguments.checkpoint,
        pretrained=arguments.pretrained,
        classes=arguments.classes,
    )
    if has_random_weights(arguments.model, arguments.checkpoint, arguments.pretrained):
        console.warn(f"{arguments.model} has random weights; name trained ones with --checkpoint or --pretrained.")
    return named


def _example_image(named: "NamedModel", size: tuple[int, int] | None, batch: int = 1) -> "Tensor":
    """Seeded noise of the network's size."""
    import torch

    from explainable_model.explaining import dtype_of

    if size is None:
        if named.preprocess is None:
            raise InputError(
                f"Nothing is known about the size of the images of this {type(named.model).__name__}; give it with "
                "--size HEIGHTxWIDTH, for example --size 224x224."
            )
        size = named.preprocess.size
    first = next((m for m in named.model.modules() if isinstance(m, torch.nn.Conv2d)), None)
    channels = len(named.preprocess.mean) if named.preprocess else first.in_channels if first else 3
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator).to(dtype_of(named.model))


@contextmanager
def _said_in_one_line(console: Console) -> Iterator[None]:
    """Our own warnings as the console says them; others stay as they are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StaticBatchWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, StaticBatchWarning):
            console.warn(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _agreement(metadata: "Metadata") -> str:
    """How an artifact of less precision agrees with the one in float32, by class."""
    found = metadata.agreement or {}
    names = metadata.class_names

    def row(name: str, each: Mapping[str, Any]) -> tuple[str, str, str, str]:
        return name, str(each["images"]), f"{each['classes']:.0%}", f"{each['correlation']:.4f}"

    shown = "photos" if found["photos"] else "made-up images"
    rows = [("predicted in float32", shown, f"same class in {metadata.precision}", "correlation of the maps")]
    for each in found["by_class"]:
        index = each["class_idx"]
        rows.append(row(names[index] if names else str(index), each))
    rows.append(row("all", found))
    return f"Smallest correlation of two maps: {found['worst']:.4f}.\n{columns(rows)}"


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} cannot be made ({error.strerror}); choose another with --out.") from error
    return out


def _headline(metadata: "Metadata") -> str:
    return f"{metadata.method} of {metadata.model} at {metadata.target_layer} as {metadata.format}"


def _without_names(metadata: "Metadata") -> dict[str, Any]:
    return {key: value for key, value in metadata.to_dict().items() if key not in ("class_names", "reference")}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join("any" if part is None else _plain(part) for part in value) + ")"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """A table for people, its cells aligned."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
