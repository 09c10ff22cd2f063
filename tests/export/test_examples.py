"""The examples give the detector's answer with the ONNX file alone, and their resize is Pillow's."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from graphs import SIDE, drawn_frame, write_tiny_bundle
from PIL import Image

from acl_runtime import Detector
from acl_runtime.images.decode import load_frame

EXAMPLES = Path(__file__).parents[2] / "examples"
PILLOW_VERSION = int(PIL.__version__.partition(".")[0])
# Where the compiler fuses multiply and add, a weight may round the other way, and a pixel with it.
ALLOWED_GREY_LEVELS = 0 if platform.machine().lower() in ("x86_64", "amd64") else 1
SIZES = [  # height, width, new height, new width
    (200, 300, 98, 98),
    (300, 200, 98, 98),
    (420, 200, 98, 98),  # so tall that Pillow 13 does the rows first
    (131, 97, 98, 98),  # one shrinks, the other grows
    (37, 41, 98, 98),  # grows
    (33, 500, 70, 56),
    (98, 98, 98, 98),
    (98, 251, 98, 98),  # one direction stays
    (1, 1, 5, 7),
    (97, 3, 1, 2),
    (1001, 1203, 37, 37),
]
RESIZE_MAIN = """
#include <cstdio>
#include <cstdlib>
#include "resize.hpp"
int main(int, char** argv) {
    int n[6];
    for (int i = 0; i < 6; ++i) n[i] = std::atoi(argv[i + 1]);
    pillow::Pixels pixels(std::size_t(n[0]) * n[1] * n[2]);
    if (std::fread(pixels.data(), 1, pixels.size(), stdin) != pixels.size()) return 1;
    const pillow::Pixels resized = pillow::resize(pixels, n[0], n[1], n[2], n[3], n[4], n[5]);
    return std::fwrite(resized.data(), 1, resized.size(), stdout) != resized.size();
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("example") / "bundle")


CSHARP_MAIN = """
using System;
public static class Run {
    public static int Main(string[] arguments) {
        int[] n = Array.ConvertAll(arguments, int.Parse);
        byte[] pixels = new byte[n[0] * n[1] * n[2]];
        using (var input = Console.OpenStandardInput())
            for (int got = 0, more = 1; got < pixels.Length && more > 0; got += more)
                more = input.Read(pixels, got, pixels.Length - got);
        byte[] resized = PillowResize.Resize(pixels, n[0], n[1], n[2], n[3], n[4], n[5]);
        using (var output = Console.OpenStandardOutput()) output.Write(resized, 0, resized.Length);
        return 0;
    }
}
"""


@pytest.fixture(scope="module", params=["cpp", "csharp"])
def resizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A program around an example's resize: sizes and Pillow's version as arguments, pixels from stdin to stdout."""
    build = build_cpp if request.param == "cpp" else build_csharp
    return build(tmp_path_factory.mktemp("resize"))


def build_cpp(folder: Path) -> list[str]:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here; install g++ to test examples/cpp/resize.hpp")
    source, program = folder / "resize.cpp", folder / "resize"
    source.write_text(RESIZE_MAIN, encoding="utf-8")
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{EXAMPLES / 'cpp'}"]
    subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
    return [str(program)]


def build_csharp(folder: Path) -> list[str]:
    compiler, machine = shutil.which("mcs"), shutil.which("mono")
    if compiler is None or machine is None:
        pytest.skip(
            "no C# compiler here; install mono-mcs and mono-runtime to test examples/csharp/Resize.cs"
        )
    source, program = folder / "Run.cs", folder / "resize.exe"
    source.write_text(CSHARP_MAIN, encoding="utf-8")
    resize = EXAMPLES / "csharp" / "Resize.cs"
    subprocess.run([compiler, "-warnaserror", f"-out:{program}", str(resize), str(source)], check=True)
    return [machine, str(program)]


def drawn_image(mode: str) -> Image.Image:
    """Coarse blocks as a picture of a mode that files come in."""
    image = Image.fromarray(drawn_frame(4, height=160, width=90))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 251)
    if mode == "RGBA":
        image.putalpha(image.convert("L").transpose(Image.Transpose.FLIP_TOP_BOTTOM))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_the_onnx_file_alone_gives_the_detectors_answer(tmp_path: Path, bundle: Path, mode: str) -> None:
    image, output = tmp_path / "image.png", tmp_path / "map.png"
    drawn_image(mode).save(image)
    command = [sys.executable, "-W", "error", EXAMPLES / "onnx_only.py", bundle / "model.onnx", image, output]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    verdict = Detector(bundle)(load_frame(image))

    word, score = run.stdout.split(",")[0].split()
    assert (word, run.stderr) == ("score", "")
    assert float(score) == pytest.approx(verdict.score, abs=1e-6)
    grey = np.asarray(Image.open(output))
    assert grey.shape == (SIDE, SIDE)
    assert grey.dtype == np.uint8
    np.testing.assert_allclose(grey / 255, verdict.anomaly_map, rtol=0, atol=0.5 / 255 + 1e-6)


def test_the_python_example_fits_on_a_page_and_needs_nothing_of_ours() -> None:
    source = (EXAMPLES / "onnx_only.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 40
    assert "acl_" not in source


@pytest.mark.parametrize("channels", [1, 3])
def test_the_examples_resize_is_pillows(resizer: list[str], channels: int) -> None:
    random = np.random.default_rng(channels)
    largest = 0
    for height, width, new_height, new_width in SIZES:
        noise = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
        edges = (noise > 127).astype(np.uint8) * 255  # overshoot at every edge: clipped after each pass
        for pixels in (noise, edges):
            numbers = (height, width, channels, new_height, new_width, PILLOW_VERSION)
            run = subprocess.run(
                [*resizer, *map(str, numbers)], input=pixels.tobytes(), capture_output=True, check=True
            )
            actual = np.frombuffer(run.stdout, np.uint8).reshape(new_height, new_width, channels)
            picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
            expected = np.asarray(picture.resize((new_width, new_height), Image.Resampling.BICUBIC))
            difference = np.abs(actual.astype(int) - expected.reshape(actual.shape))
            largest = max(largest, int(difference.max()))
    print(f"largest difference: {largest} grey levels")
    assert largest <= ALLOWED_GREY_LEVELS, f"example and Pillow differ by {largest} grey levels"
