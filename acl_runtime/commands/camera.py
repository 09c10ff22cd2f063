"""`acl camera`: which cameras are there, pictures of one, and the references of its flat field."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.commands import options
from acl_runtime.text.terminal import echo, note

camera = typer.Typer(no_args_is_help=True, help="Find cameras, take pictures and flat-field references.")
Source = Annotated[
    str, typer.Argument(help="Camera, such as aravis:NAME, see acl camera list.", show_default=False)
]


class Light(str, Enum):
    """What a camera looks at while a reference is taken."""

    dark = "dark"
    bright = "bright"


@camera.command("list")
def list_() -> None:
    """List the cameras that answer: what to call each, model, serial number, address and link.

    It takes about a second. What cannot be asked for, and what to install for it,
    is said on stderr.
    """
    from acl_runtime.sources.cameras import list_cameras

    cameras, problems = list_cameras()
    for problem in problems:
        note(problem)
    for each in cameras:
        facts = (each.model, each.serial and f"serial {each.serial}", each.address, each.link)
        echo(f"{each.source}  {', '.join(fact for fact in facts if fact)}")
    if not cameras:
        echo(
            "no camera answers; check cable and power, and that the network card has an address in the camera's net"
        )
        raise typer.Exit(1)


@camera.command()
def grab(
    source: Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the pictures, .png.", show_default=False)
    ],
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Pictures to take.")] = 10,
    lines: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Lines of a picture, from as many blocks as that needs; otherwise a frame or a block is a picture.",
            show_default=False,
        ),
    ] = None,
    setting: options.CameraSettings = None,
) -> None:
    """Take pictures of a camera: frames, or strips of a line camera without a line missing.

    They are numbered 000000.png and so on, and read by every command that takes a
    folder. A camera that sends nothing for 10 s is an error.
    """
    from contextlib import closing
    from itertools import islice

    from acl_runtime.files.errors import InputError
    from acl_runtime.sources.grab import iter_blocks, iter_pictures, save_picture
    from acl_runtime.sources.lines import open_line_source

    paths = [output / f"{index:06d}.png" for index in range(count)]
    if exists := [path for path in paths if path.exists()]:
        raise InputError(f"{exists[0]}: is there already; name another folder")
    taken = 0
    with closing(open_line_source(source, options.parse_camera_settings(setting))) as opened:
        pictures = iter_pictures(iter_blocks(opened), opened.numbers, lines=lines)
        for path, picture in zip(paths, islice(pictures, count), strict=False):
            save_picture(path, picture)
            taken += 1
            echo(f"{path}  {picture.shape[1]}×{picture.shape[0]}")
    if taken < count:
        note(f"{source}: ended after {taken} of {count} pictures")


@camera.command()
def reference(
    source: Source,
    light: Annotated[
        Light,
        typer.Argument(
            help="dark: with the lens covered. bright: over something even, as bright as the web or brighter.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for both references; made if needed.", show_default=False
        ),
    ],
    *,
    lines: Annotated[int, typer.Option(min=1, help="Lines to average.")] = 2000,
    setting: options.CameraSettings = None,
) -> None:
    """Take a reference for the flat field: the mean of each pixel, in the dark or in even light.

    With both, the lines are corrected for lens, lamp and sensor: an even surface
    is even afterwards. Once both are there, pixels that cannot be corrected are
    named. Move the bright surface meanwhile, so that its own dirt is averaged out.
    """
    from acl_runtime.web.flat_field import load_flat_field
    from acl_runtime.web.reference import save_reference, take_reference

    taken = take_reference(source, options.parse_camera_settings(setting), light.value, lines=lines)
    path = save_reference(output, taken)
    low, high = (100 * level / taken.facts.full_scale for level in (taken.mean.min(), taken.mean.max()))
    echo(f"{path}: {taken.facts.lines} lines, pixels at {low:.1f} to {high:.1f} %")
    if all((output / f"{each.value}.json").exists() for each in Light):
        load_flat_field(output)
        echo(f"{output}: dark and bright reference fit together; every pixel can be corrected")
