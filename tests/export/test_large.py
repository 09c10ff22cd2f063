"""The true ViT-L/14@336 shape at 518 px, from a checkpoint through the command line to the map.

Needs minutes, 8 GB of memory, and the two vectors `L336_518_synth{0,1}.npz` in the folder that `--large-vectors`
names (5.6 MB, not in the repository): pytest -m large --large-vectors FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES, assert_golden
from golden import recipe

pytestmark = pytest.mark.large


def acl(*arguments: object) -> str:
    """Each command in a process of its own, so that the memory of one is free before the next."""
    command = [sys.executable, "-m", "acl_runtime.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def vectors(request: pytest.FixtureRequest) -> Path:
    folder: str | None = request.config.getoption("--large-vectors")
    if folder is None:
        pytest.skip("--large-vectors FOLDER is not given")
    return Path(folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, vectors: Path) -> Path:
    """A folder with the recipe's ViT-L weights, as OpenAI's archive, and prompts."""
    folder = tmp_path_factory.mktemp("large")
    code = (
        "import sys; from golden import recipe; "
        "recipe.write_clip_jit('L336', sys.argv[1] + '/clip.pt'); recipe.write_prompt('L336', sys.argv[1] + '/p.pth')"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)], check=True, cwd=Path(__file__).parents[1]
    )
    return folder


@pytest.mark.parametrize(
    ("layers", "name"), [((6, 12, 18, 24), "anomaly_map"), ((24,), "anomaly_map_last")], ids=["four", "last"]
)
def test_the_command_line_gives_the_published_score_and_map(
    large: Path, vectors: Path, tmp_path: Path, layers: tuple[int, ...], name: str
) -> None:
    prompts, bundle, maps = tmp_path / "p.safetensors", tmp_path / "bundle", tmp_path / "maps"
    options = ("--weights", large / "clip.pt", "--image-size", 518, "--vv-from", 6)
    acl("convert", large / "p.pth", "-o", prompts, *options, "--layers", ",".join(map(str, layers)))
    acl("export", prompts, "-o", bundle, "--weights", large / "clip.pt")
    images = [FIXTURES / "images" / f"{image}.png" for image in ("synth0", "synth1")]
    lines = acl("run", bundle, *images, "--save-maps", maps, "--json", "-").splitlines()
    for image, line in zip(images, lines, strict=True):
        with np.load(vectors / f"L336_518_{image.stem}.npz") as archive:
            reference = {key: archive[key] for key in ("score", name)}
        mine = {
            "score": np.array([json.loads(line)["score"]]),
            name: len(layers)
            * np.load(maps / f"{image.stem}.npy"),  # the published map is the sum over layers
        }
        print(
            image.stem,
            layers,
            {key: entry["max_abs"] for key, entry in recipe.compare(reference, mine)[1].items()},
        )
        assert_golden(reference, **mine)
