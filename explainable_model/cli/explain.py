"""``explainable-model explain``: predict and explain photos."""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.method_options import ALL, OPTIONS, wrapper_arguments
from explainable_model.cli.network import load_network, refuse_without_model
from explainable_model.cli.outcome import FAILED, Outcome, make_folder, show_warnings
from explainable_model.cli.photo_tasks import PhotoTask, Table, choose_tasks, plan_tasks
from explainable_model.cli.preparation import PREPARATION, require_preparation
from explainable_model.errors import InputError
from explainable_model.explainer.detection_defaults import DETECTION

if TYPE_CHECKING:
    from explainable_model.explainer.explainer import Explainer
    from explainable_model.explainer.pictures import PhotoRequest
    from explainable_model.imaging.overlay import OverlayStyle
    from explainable_model.imaging.window import Window
    from explainable_model.networks.named import NamedModel
    from explainable_model.runtime import Session


@dataclass(frozen=True)
class PhotoCommand:
    """How the command explains each photo.

    Attributes:
        run: from a ``PhotoRequest`` to its record; writes the pictures.
        class_names: one per class, if known.
        window: of the network's preparation, see ``Preprocess``.
        describe: a record as text.
        has_boxes: whether boxes are explained, which the table has then.
    """

    run: Callable[..., dict[str, Any]]
    class_names: Sequence[str] | None
    window: "Window | None"
    describe: Callable[[dict[str, Any]], str]
    has_boxes: bool = False


def explain(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write pictures of the photos; a photo that cannot be read does not stop the others."""
    from explainable_model.explainer.answers import resolve_class
    from explainable_model.imaging.overlay import COLORMAP, OverlayStyle, check_style

    check_style(arguments.colormap or COLORMAP, arguments.alpha, arguments.threshold)
    _check_picture(arguments)
    style = OverlayStyle(arguments.colormap, arguments.alpha, arguments.threshold, arguments.hide)
    kinds = ("methods",) if arguments.method == ALL else ("panel", "overlay")
    tasks = plan_tasks(arguments.photos, arguments.out, kinds, f".{arguments.picture}")
    chosen = choose_tasks(tasks, skip_existing=arguments.skip_existing, overwrite=arguments.overwrite)
    command = _choose_command(arguments, console)
    class_idx = resolve_class(arguments.class_name, command.class_names)
    make_folder(arguments.out)
    records: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    with Table(arguments.csv, append=arguments.skip_existing, boxes=command.has_boxes) as table:
        for task in console.iterate(chosen, "explaining"):
            record = _explain_task(task, command, class_idx, style, arguments, console)
            table.add(record)
            (failures if "error" in record else records).append(record)
            if "error" in record:
                console.error(record["error"])
            if arguments.jsonl:
                console.emit(json.dumps(record, ensure_ascii=False))
            elif not arguments.json and "error" not in record:
                console.emit(command.describe(record))
    skipped = len(tasks) - len(chosen)
    text = f"{skipped} photo(s) with pictures skipped" if skipped and not arguments.jsonl else ""
    return Outcome(text, {"photos": records, "errors": failures, "skipped": skipped}, FAILED if failures else 0)


def _check_picture(arguments: argparse.Namespace) -> None:
    """Refuse what pictures in DICOM cannot hold, and what belongs to them alone."""
    if arguments.keep_patient and arguments.picture != "dcm":
        raise InputError("--keep-patient belongs to --picture dcm; other pictures name no patient.")
    if arguments.method == ALL and arguments.picture == "dcm":
        raise InputError(f"--picture dcm takes one method; leave out --method {ALL}, whose sheet names the file.")


def _explain_task(
    task: PhotoTask,
    command: PhotoCommand,
    class_idx: int | None,
    style: "OverlayStyle",
    arguments: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    """Explain one photo; the record of a photo that cannot be read has an error instead."""
    from explainable_model.explainer.pictures import PhotoRequest
    from explainable_model.imaging.preprocess import open_photo

    try:
        with show_warnings(console):
            photo = open_photo(task.photo, arguments.window or command.window)
    except InputError as error:
        return {"photo": str(task.photo), "error": str(error)}
    make_folder(task.target.parent)
    ending, keep_patient = f".{arguments.picture}", arguments.keep_patient
    return command.run(PhotoRequest(photo, task.photo, class_idx, style, task.target, ending, keep_patient))


def _choose_command(arguments: argparse.Namespace, console: Console) -> PhotoCommand:
    """Pick what explains: every method of a network, one method of a network, or an artifact."""
    from explainable_model.explainer.explainer import session_explainer
    from explainable_model.explainer.photo_pictures import explain_photo
    from explainable_model.runtime import load

    if arguments.artifact is not None:
        reason = "an artifact has that inside"
        refuse_without_model(
            arguments,
            "checkpoint",
            "pretrained",
            "classes",
            "output_kind",
            "presence",
            "size",
            *PREPARATION,
            *OPTIONS,
            reason=reason,
        )
        session = load(arguments.artifact, trusted=arguments.trusted)
        if session.metadata.detection is not None:
            return _explain_detector(arguments, session)
        explainer = session_explainer(session)
    elif arguments.task == DETECTION:
        return _explain_detector(arguments, load_network(arguments, console))
    elif arguments.method == ALL:
        return _explain_with_all(arguments, console)
    else:
        explainer = _make_explainer(arguments, load_network(arguments, console))
    run = functools.partial(explain_photo, explainer)
    return PhotoCommand(run, explainer.class_names, explainer.preprocess.window, _describe_record)


def _explain_detector(arguments: argparse.Namespace, source: "Session | NamedModel") -> PhotoCommand:
    """Explain the boxes of a detector, which is an open artifact or a network."""
    from explainable_model.explainer.detector import open_detector
    from explainable_model.explainer.photo_detections import explain_photo_boxes

    if arguments.method == ALL:
        raise InputError(f"--method {ALL} explains classes; name one method for the boxes of a detector.")
    if arguments.class_name is not None:
        raise InputError("--class belongs to classifiers; a detector explains the boxes that it finds: leave it out.")
    options: dict[str, Any] = {}
    if arguments.artifact is None:
        options = {name: value for name, value in wrapper_arguments(arguments).items() if name != "task"}
    explainer = open_detector(source, **options)
    run = functools.partial(explain_photo_boxes, explainer)
    return PhotoCommand(run, explainer.class_names, explainer.preprocess.window, _describe_boxes, has_boxes=True)


def _describe_boxes(record: dict[str, Any]) -> str:
    """Name the photo, its boxes and the picture: ``street.jpg: cup 94%, coin 71% -> out/street-panel.png``."""
    named = [(box["class_name"] or f"class {box['class_idx']}", box["score"]) for box in record["boxes"]]
    boxes = ", ".join(f"{name} {score:.0%}" for name, score in named)
    return f"{record['photo']}: {boxes or 'no box'} -> {record['panel']}"


def _make_explainer(arguments: argparse.Namespace, named: "NamedModel", method: str | None = None) -> "Explainer":
    from explainable_model.explainer.explainer import SMOOTH, model_explainer

    require_preparation(named)
    options = {"upsample": SMOOTH, **wrapper_arguments(arguments, method)}
    return model_explainer(named, options.pop("target_layer", None), **options)


def _describe_record(record: dict[str, Any]) -> str:
    """Name the photo, the explained classes and the picture: ``cat.jpg: Egyptian cat, 79% -> out/cat-panel.png``."""
    from explainable_model.explainer.answers import label_class

    classes = "; ".join(map(label_class, record.get("explained", [record])))
    return f"{record['photo']}: {classes} -> {record['panel']}"


def _explain_with_all(arguments: argparse.Namespace, console: Console) -> PhotoCommand:
    """Explain with every method, on one sheet per photo."""
    from explainable_model.explainer.method_sheet import describe_sheet, explain_with_all
    from explainable_model.methods import METHODS

    if arguments.option or arguments.top_k:
        raise InputError(
            f"--method {ALL} explains one class with each method's own options; leave out --option, --top-k."
        )
    named = load_network(arguments, console)
    require_preparation(named)

    def make_explainer(method: str) -> "Explainer":
        console.say(f"{METHODS[method].title} ({list(METHODS).index(method) + 1} of {len(METHODS)})")
        return _make_explainer(arguments, named, method)

    def run(request: "PhotoRequest") -> dict[str, Any]:
        record = explain_with_all(make_explainer, request)
        for failure in record["failures"]:
            console.warn(f"{METHODS[failure['method']].title} does not fit this network: {failure['error']}")
        return record

    window = named.preprocess.window if named.preprocess else None
    return PhotoCommand(run, named.class_names, window, describe_sheet)
