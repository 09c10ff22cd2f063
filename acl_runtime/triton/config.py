"""The text of `config.pbtxt`, by which a Triton server knows a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

ServerBackend = Literal["python", "onnxruntime", "tensorrt"]
Device = Literal["gpu", "cpu"]


@dataclass(frozen=True)
class Port:
    """An input or output of a model.

    Attributes:
        name: As the model has it.
        kind: As Triton calls it, such as "TYPE_FP32".
        dims: Without the batch; -1 for what differs from call to call.
        is_of_batch: Whether the model's own array has the batch for its only axis; Triton's then has another of one.
    """

    name: str
    kind: str
    dims: tuple[int, ...]
    is_of_batch: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model of the server.

    Attributes:
        name: Of the model, and of its folder.
        backend: Of the server, that runs it.
        file: Of the version's folder that the backend reads.
        max_batch: Most rows that the server puts together.
        inputs: What goes in.
        outputs: What comes out.
        device: What runs it; of a GPU the server makes the instances on each that it has.
        instances: Copies that run at the same time, on each device.
        max_delay_us: Longest that the server waits for others to share a batch, in microseconds.
        warm_up: Sizes of batches that are run before the server says that it is ready.
        parameters: By name, for whoever reads the configuration.
        cuda: Options of ONNX Runtime where it runs on a GPU.
    """

    name: str
    backend: ServerBackend
    file: str
    max_batch: int
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    device: Device
    instances: int
    max_delay_us: int
    warm_up: Sequence[int]
    parameters: Mapping[str, str]
    cuda: Mapping[str, str]


def config_text(config: ModelConfig) -> str:
    """The whole file, in protobuf's text format."""
    lines = [
        "# Written by acl triton; see docs/triton.md for what may be changed.",
        f"name: {_quoted(config.name)}",
        f"backend: {_quoted(config.backend)}",
        f"default_model_filename: {_quoted(config.file)}",
        f"max_batch_size: {config.max_batch}",
        *(line for port in config.inputs for line in _port("input", port)),
        *(line for port in config.outputs for line in _port("output", port)),
        f"instance_group [ {{ count: {config.instances} kind: KIND_{config.device.upper()} }} ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {config.max_delay_us} }}",
        *(line for batch in config.warm_up for line in _warm_up(config.inputs, batch)),
        *_accelerator(config.cuda),
        *(
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in config.parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _port(what: str, port: Port) -> list[str]:
    reshape = ["  reshape { shape: [ ] }"] if port.is_of_batch else []
    dims = ", ".join(map(str, port.dims))
    return [
        f"{what} {{",
        f"  name: {_quoted(port.name)}",
        f"  data_type: {port.kind}",
        f"  dims: [ {dims} ]",
        *reshape,
        "}",
    ]


def _warm_up(inputs: Sequence[Port], batch: int) -> list[str]:
    values = [
        f"  inputs {{ key: {_quoted(port.name)} value {{ data_type: {port.kind} "
        f"dims: [ {', '.join(map(str, port.dims))} ] random_data: true }} }}"
        for port in inputs
    ]
    return ["model_warmup {", f'  name: "{batch} at once"', f"  batch_size: {batch}", *values, "}"]


def _accelerator(cuda: Mapping[str, str]) -> list[str]:
    if not cuda:
        return []
    options = [
        f"    parameters {{ key: {_quoted(key)} value: {_quoted(value)} }}" for key, value in cuda.items()
    ]
    return [
        "optimization { execution_accelerators {",
        '  gpu_execution_accelerator {\n    name: "cuda"',
        *options,
        "  }",
        "} }",
    ]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
