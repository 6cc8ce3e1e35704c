"""What every ONNX file of the library must be, whatever runtime reads it: well-formed, typed, sized and named."""

from pathlib import Path


def check_onnx_file(path: Path) -> None:
    """Check a file with onnx's own checker and with strict inference of shapes; each node has a name of its own."""
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    names = [node.name for node in model.graph.node]
    assert all(names), "every node has a name"
    assert len(set(names)) == len(names), "no two nodes have one name"
    (opset,) = (each.version for each in model.opset_import if not each.domain)
    imports = [onnx.helper.make_opsetid("", opset)]
    assert model.ir_version == onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True)
