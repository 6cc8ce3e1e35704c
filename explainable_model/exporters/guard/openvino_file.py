"""Reads an OpenVINO model, an XML text, for its metadata and for what a model of this library never holds."""

import math
import re
from pathlib import Path
from xml.parsers import expat

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from explainable_model.exporters.guard.refusal import Refusal, shorten

MAX_BYTES, MAX_DEPTH = 256 << 20, 12
OPSET = re.compile(r"opset\d{1,2}", re.ASCII)
BODIES = {"body", "then_body", "else_body", "port_map", "back_edges"}
BITS = {
    "f64": 64, "i64": 64, "u64": 64, "f32": 32, "i32": 32, "u32": 32, "f16": 16, "bf16": 16, "i16": 16, "u16": 16,
    "i8": 8, "u8": 8, "boolean": 8,
}  # fmt: skip


class _Reader:
    """Receives the elements of the text in their order."""

    def __init__(self, weights: int) -> None:
        self.weights = weights
        self.metadata: str | None = None
        self.path: list[str] = []
        self.layer = ("", "")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.path.append(name)
        if len(self.path) > MAX_DEPTH:
            raise Refusal("its elements are nested too deep")
        if name in BODIES:
            raise Refusal(f"the layer {shorten(self.layer[0])} holds a graph, as loops do")
        if self.path == ["net", "layers", "layer"]:
            self.layer = attributes.get("type", ""), attributes.get("name", "")
            if not OPSET.fullmatch(attributes.get("version", "")):
                raise Refusal(f"it has the layer {shorten(self.layer[0])} of {shorten(attributes.get('version'))}")
        if self.path == ["net", "layers", "layer", "data"] and self.layer[0] == "Const":
            self.check_constant(attributes)
        if self.path == ["net", "rt_info", METADATA_KEY]:
            self.metadata = attributes.get("value")

    def end(self, name: str) -> None:
        self.path.pop()

    def doctype(self, *_: object) -> None:
        raise Refusal("it declares entities or a document type")

    def check_constant(self, attributes: dict[str, str]) -> None:
        """A constant lies inside of the file with the weights, and has the bytes that its shape needs."""
        try:
            offset, size = int(attributes["offset"]), int(attributes["size"])
            shape = [int(n) for n in attributes.get("shape", "").split(",") if n.strip()]
        except (KeyError, ValueError) as error:
            raise Refusal(f"the constant {shorten(self.layer[1])} does not say where it lies") from error
        bits = BITS.get(attributes.get("element_type", ""), 0)
        if min([0, offset, size, *shape]) < 0 or offset + size > self.weights or len(shape) > 64:
            raise Refusal(f"the constant {shorten(self.layer[1])} lies outside of the weights")
        if not bits or math.prod(shape) * bits != 8 * size:
            raise Refusal(f"the constant {shorten(self.layer[1])} has {size} bytes, and not those of its shape")


def read_openvino(path: Path, weights: Path) -> str | None:
    """Read the metadata text, and check the layers.

    Args:
        path: the XML text.
        weights: the file with the weights.

    Raises:
        ArtifactError: the file is damaged or no model of OpenVINO.
        Refusal: it holds a document type, loops, layers of other programs, or constants outside of the weights.
    """
    reader = _Reader(weights.stat().st_size)
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = reader.doctype
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        parser.Parse(path.read_bytes(), True)
    except (OSError, ValueError, expat.ExpatError) as error:
        raise ArtifactError(f"{path} is damaged or not a model OpenVINO can read ({error}).") from error
    return reader.metadata
