"""Damages ONNX graphs as their author could: the file stays well-formed, and a number, a name or a node is another."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.support.onnx_files import constant, model_of, small_model, small_nodes, small_weights

NUMBERS = (0, -1, 1, 2, 3, 7, 255, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
TYPES = (
    *("Add", "Mul", "Div", "Pow", "MatMul", "Gemm", "Conv", "ConvTranspose", "Concat", "Reshape", "Expand", "Tile"),
    *(
        "Range",
        "ConstantOfShape",
        "Shape",
        "Size",
        "Slice",
        "Gather",
        "GatherND",
        "Pad",
        "Resize",
        "Upsample",
        "OneHot",
    ),
    *("Loop", "Scan", "If", "NonZero", "TopK", "Einsum", "CumSum", "Where", "Cast", "Split", "Transpose", "Squeeze"),
    *("Identity", "Dropout", "LSTM", "RoiAlign", "GridSample", "Attention", "QuantizeLinear", "Constant", "Nothing"),
)


def make_graphs() -> dict[str, ModelProto]:
    """A classifier, and one that makes shapes and sizes in every way that files do."""
    return {"classifier": small_model(), "sizes": _make_sizes()}


def _make_sizes() -> ModelProto:
    """Each branch makes zeros of the logits' shape from a size that the graph computes, and adds them."""
    make = helper.make_node
    nodes = [
        *small_nodes(),
        make("Shape", ["logits"], ["shape"], name="shape"),
        make("ConstantOfShape", ["shape"], ["zeros"], name="zeros"),
        make("Expand", ["one", "shape"], ["ones"], name="ones"),
        make("Gather", ["shape", "axis"], ["classes"], name="classes", axis=0),
        make("Range", ["nought", "classes", "step"], ["count"], name="count"),
        make("Cast", ["count"], ["counted"], name="counted", to=TensorProto.FLOAT),
        make("Tile", ["half", "times"], ["tiled"], name="tiled"),
        make("Pad", ["tiled", "pads"], ["padded"], name="padded"),
        make("Resize", ["features", "", "scales"], ["larger"], name="larger", mode="nearest"),
        make("ConvTranspose", ["larger", "kernel"], ["upward"], name="upward", strides=[2, 2]),
        make("ReduceMean", ["upward"], ["mean"], name="mean", axes=[1, 2, 3], keepdims=0),
        make("Unsqueeze", ["mean", "axis"], ["column"], name="column"),
        make("OneHot", ["place", "depth", "values"], ["hot"], name="hot"),
        make("Concat", ["hot", "hot"], ["twice"], name="twice", axis=0),
        make("Slice", ["twice", "begin", "end"], ["cut"], name="cut"),
        make("Sum", ["zeros", "ones", "counted", "padded", "column", "cut"], ["sum"], name="sum"),
        make("Add", ["logits", "sum"], ["end"], name="end"),
    ]
    weights = [
        *small_weights(),
        *(constant("one", [1.0], np.float32), constant("half", [0.5], np.float32), constant("axis", 1)),
        *(constant("nought", 0), constant("step", 1), constant("times", [3]), constant("pads", [1, 1])),
        *(constant("scales", [1, 1, 2, 2], np.float32), constant("kernel", np.ones((8, 1, 2, 2)), np.float32)),
        *(constant("place", [2]), constant("depth", 5), constant("values", [0, 1], np.float32)),
        *(constant("begin", [0]), constant("end_", [1])),
    ]
    for node in nodes:
        if node.name == "cut":
            node.input[2] = "end_"
        if node.name == "column":
            node.input[1] = "axes"
    weights.append(constant("axes", [1]))
    return model_of(nodes, weights, outputs=("end",))


def _change_attribute(model: ModelProto, dice: random.Random) -> None:
    attributes = [each for node in model.graph.node for each in node.attribute]
    if attributes:
        chosen = dice.choice(attributes)
        if chosen.ints:
            chosen.ints[dice.randrange(len(chosen.ints))] = dice.choice(NUMBERS)
        elif chosen.HasField("i"):
            chosen.i = dice.choice(NUMBERS)
        else:
            chosen.f = dice.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))


def _change_constant(model: ModelProto, dice: random.Random) -> None:
    chosen = dice.choice(model.graph.initializer)
    values = np.array(numpy_helper.to_array(chosen))
    if values.size:
        number = dice.choice(NUMBERS)
        values.flat[dice.randrange(values.size)] = number
    chosen.CopyFrom(numpy_helper.from_array(values, chosen.name))


def _change_dimension(model: ModelProto, dice: random.Random) -> None:
    chosen = dice.choice(model.graph.initializer)
    if chosen.dims:
        chosen.dims[dice.randrange(len(chosen.dims))] = dice.choice(NUMBERS)
    else:
        chosen.dims.append(dice.choice(NUMBERS))


def _change_type(model: ModelProto, dice: random.Random) -> None:
    dice.choice(model.graph.node).op_type = dice.choice(TYPES)


def _change_input(model: ModelProto, dice: random.Random) -> None:
    """Another value, which may be made later, or by the node itself."""
    node = dice.choice(model.graph.node)
    names = [name for each in model.graph.node for name in (*each.input, *each.output)]
    if node.input:
        node.input[dice.randrange(len(node.input))] = dice.choice(names)


def _move_node(model: ModelProto, dice: random.Random) -> None:
    nodes = list(model.graph.node)
    nodes.insert(dice.randrange(len(nodes)), nodes.pop(dice.randrange(len(nodes))))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _repeat_node(model: ModelProto, dice: random.Random) -> None:
    """A node again and again, each reading what the last one made: shapes and values grow by each."""
    chosen = dice.choice(model.graph.node)
    read = chosen.output[0]
    for number in range(dice.choice((2, 12, 40))):
        node = NodeProto()
        node.CopyFrom(chosen)
        node.name = f"{chosen.name}{number}"
        for place in range(len(node.input)):
            if dice.random() < 0.7:
                node.input[place] = read
        node.output[0] = read = f"{chosen.output[0]}_{number}"
        model.graph.node.append(node)
    model.graph.node.append(helper.make_node("Identity", [read], ["again"], name="again"))
    model.graph.output.add(name="again")


def _place_elsewhere(model: ModelProto, dice: random.Random) -> None:
    chosen = dice.choice(model.graph.initializer)
    chosen.ClearField("raw_data")
    chosen.data_location = TensorProto.EXTERNAL
    place = dice.choice(("../secret", "/etc/passwd", "/dev/zero", "graph.onnx", "", ".", "a\0b", "/proc/self/mem"))
    chosen.external_data.add(key="location", value=place)
    for key in dice.sample(("offset", "length", "checksum"), 2):
        chosen.external_data.add(key=key, value=str(dice.choice(NUMBERS)))


def _change_image(model: ModelProto, dice: random.Random) -> None:
    kind = model.graph.input[0].type.tensor_type
    kind.shape.dim[dice.randrange(len(kind.shape.dim))].dim_value = dice.choice(NUMBERS)
    if dice.random() < 0.3:
        kind.elem_type = dice.randrange(24)


def _change_notes(model: ModelProto, dice: random.Random) -> None:
    """What the file says about its classes and photos."""
    key = dice.choice(("classes", "names", "labels", "config", "pretrained_cfg", "mean_values", "scale_values"))
    text = dice.choice(
        (
            *("(" * 9000, "[" * 90_000, "{None: 'x'}", "{1: 2, 'x': []}", "a\0b", "1e999 -1e999 nan", "9" * 9000),
            *('{"mean": 3, "std": [], "input_size": "x"}', '{"mean": [0], "std": [0], "input_size": [3, -1, 1e9]}'),
        )
    )
    model.metadata_props.add(key=key, value=text)


CHANGES: Sequence[Callable[[ModelProto, random.Random], None]] = (
    _change_attribute, _change_constant, _change_dimension, _change_type, _change_input, _move_node, _repeat_node,
    _place_elsewhere, _change_image, _change_notes,
)  # fmt: skip


def changed_graphs(model: Any, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Change a graph in many ways; a seed gives the same changes again."""
    for number in range(count):
        dice = random.Random(f"{seed}:{number}")
        copy = ModelProto()
        copy.CopyFrom(model)
        chosen = dice.sample(CHANGES, dice.choice((1, 1, 2, 3)))
        for change in chosen:
            change(copy, dice)
        yield f"{number} ({', '.join(each.__name__.strip('_') for each in chosen)})", copy.SerializeToString()
