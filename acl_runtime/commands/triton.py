"""`acl triton`: a model repository for a Triton server."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.text.terminal import echo


class ServerBackend(str, Enum):
    """What runs the network in the server."""

    python = "python"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"


class Device(str, Enum):
    """Where it runs."""

    gpu = "gpu"
    cpu = "cpu"


def triton(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model repository to write.", show_default=False)
    ],
    name: Annotated[
        str, typer.Option(help="Name of the network's model. [default: the bundle's]", show_default=False)
    ] = "",
    backend: Annotated[
        ServerBackend,
        typer.Option(help="Triton's backend: python runs a session of acl, tensorrt an engine of acl build."),
    ] = ServerBackend.python,
    device: Annotated[Device, typer.Option(help="What the server runs the network on.")] = Device.gpu,
    session: Annotated[
        Backend,
        typer.Option(help="With --backend python: what runs the graph inside, as of acl run --backend."),
    ] = Backend.auto,
    instances: Annotated[
        int, typer.Option(min=1, max=64, help="Copies of the network that run at the same time, on each GPU.")
    ] = 1,
    picture_instances: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that decode pictures and judge them.")
    ] = 1,
    max_delay_ms: Annotated[
        float,
        typer.Option(
            min=0,
            max=10_000,
            help="Maximum time in ms that a request waits for its batch to fill; what waits while the network is busy "
            "shares a batch anyway.",
        ),
    ] = 0.0,
    bits: options.Bits = None,
    exif: options.Exif = False,
    max_megapixels: options.MaxMegapixels = options.MAX_MEGAPIXELS,
) -> None:
    """Write a model repository for a Triton inference server.

    It holds two models: the network, which acl run --triton and acl serve use,
    and NAME-picture, which takes a JPEG or PNG and answers with score, peak,
    verdict, regions and map, as acl run does. The server needs this package for
    NAME-picture and for --backend python.

    See docs/triton.md for how to start the server.
    """
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.files.errors import InputError
    from acl_runtime.triton.repository import RepositoryOptions, write_repository

    if session is Backend.triton:
        raise InputError("--session must be what runs the graph in the server, got triton")
    if session is not Backend.auto and backend is not ServerBackend.python:
        raise InputError(f"--session is for --backend python, got it with {backend.value}")
    chosen = RepositoryOptions(
        name=name,
        backend=backend.value,
        device=device.value,
        session=session.value,
        instances=instances,
        picture_instances=picture_instances,
        max_delay_us=round(1000 * max_delay_ms),
        reading=options.parse_reading(bits, exif, max_megapixels),
    )
    network, picture = write_repository(load_bundle(bundle), output, chosen)
    echo(f"{output}: models {network} and {picture}; start the server with")
    echo(f"  tritonserver --model-repository {output.resolve()}")
    echo(f"and judge with  acl run {bundle} --triton HOST:8000/{network} IMAGES")
