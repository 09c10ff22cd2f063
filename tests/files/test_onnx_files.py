"""The files that a graph reads are found without the onnx package, as the onnx package writes them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from graphs import write_tiny_graph
from onnx import TensorProto, helper

from acl_runtime.files.errors import BundleError
from acl_runtime.files.onnx_files import external_files


def external_tensor(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_a_graph_that_holds_its_weights_reads_nothing(tmp_path: Path) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    assert external_files(tmp_path / "model.onnx") == set()


def test_a_graph_saved_with_its_weights_beside_it_reads_that_file(tmp_path: Path) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(
        model, tmp_path / "b.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert external_files(tmp_path / "b.onnx") == {"weights.bin"}


def test_no_place_in_a_graph_is_forgotten(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], [external_tensor("../in/a/subgraph")])
    nodes = [
        helper.make_node("Constant", [], ["a"], value=external_tensor("constant")),
        helper.make_node(
            "If", ["a"], ["b"], then_branch=inner, else_branch=helper.make_graph([], "e", [], [])
        ),
        helper.make_node("Any", ["a"], ["c"], many=[external_tensor("list 1"), external_tensor("list 2")]),
    ]
    graph = helper.make_graph(nodes, "outer", [], [], [external_tensor("/initializer")])
    sparse = onnx.SparseTensorProto(values=external_tensor("values"), indices=external_tensor("indices"))
    graph.sparse_initializer.append(sparse)
    model = helper.make_model(graph)
    call = helper.make_node("Constant", [], ["z"], value=external_tensor("function"))
    model.functions.append(helper.make_function("d", "f", [], ["z"], [call], []))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert external_files(tmp_path / "model.onnx") == {
        *("../in/a/subgraph", "constant", "list 1", "list 2", "/initializer", "values", "indices", "function")
    }


@pytest.mark.parametrize(
    "data", [b"", b"not a graph at all", b"\x3a\xff", b"\x3a\xff\xff\xff\x7f", b"\x80" * 99]
)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.onnx: is not an ONNX graph .*; export the bundle again"):
        external_files(tmp_path / "model.onnx")


def test_a_field_whose_number_is_past_32_bits_hides_nothing(tmp_path: Path) -> None:
    """Protobuf's readers drop the bits above: they would see the graph that another reader passes over."""
    graph = helper.make_graph([], "g", [], [], [external_tensor("../secret")]).SerializeToString()
    tag = 7 << 3 | 2 | 1 << 32
    varint = bytes(tag >> shift & 0x7F | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    assert len(graph) < 128
    (tmp_path / "model.onnx").write_bytes(varint + bytes([len(graph)]) + graph)
    with pytest.raises(BundleError, match=r"is not an ONNX graph \(a field's number is too large\)"):
        external_files(tmp_path / "model.onnx")
