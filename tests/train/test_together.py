"""Two processes under the real torchrun do what one does, also where one of them is killed and all begin again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LAYERS, MINI
from console import acl
from PIL import Image

from acl_train.prompts import load_prompts

ROOT = Path(__file__).parents[2]
GOOD_FOR_S = 300.0
VAND = (
    "--method",
    "vand",
    "--epochs",
    2,
    "--batch-size",
    33,
)  # shares of 17 and 16, and one of none at the end


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures for two shards, the last of them short."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number in range(168):
        name, label = f"{number:03d}.png", "good" if number % 2 else "hole"
        picture = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        for path, pixels in (
            (folder / "test" / label / name, picture),
            (
                folder / "ground_truth" / label / name.replace(".", "_mask."),
                np.uint8(255) * (picture[..., 0] > 180),
            ),
        ):
            if label == "hole" or path.parts[-3] == "test":
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return folder


def start(commands: Sequence[Sequence[object]], log: Path) -> subprocess.Popen[bytes]:
    """Two processes on this machine, each of which runs the commands of `acl` one after the other."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    lines = json.dumps([[str(word) for word in command] for command in commands])
    with log.open("wb") as file:
        return subprocess.Popen(
            [*torchrun, __file__, lines],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        )


def process_of_rank(rank: int, parent: int) -> int:
    """Its number, among the children of torchrun."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    wanted = f"RANK={rank}".encode()
    return next(
        int(child) for child in children if wanted in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    )


def arguments_of(data: Path, weights: Path, folder: Path, *options: object) -> list[object]:
    common = (
        "--weights",
        weights,
        "--image-size",
        70,
        "--layers",
        ",".join(map(str, LAYERS)),
        "--device",
        "cpu",
    )
    return ["train", data, "-o", folder / "p.safetensors", "--cache", folder / "cache", *common, *options]


def cache_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder / "cache")): path.read_bytes()
        for path in sorted((folder / "cache").rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")
def test_two_processes_of_which_one_is_killed_and_resumed_do_what_one_does(
    data: Path, clip_path: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    arguments = arguments_of(data, clip_path, together, *VAND)
    run = start([arguments], tmp_path / "log")
    until = time.monotonic() + GOOD_FOR_S
    while not list(together.glob("cache/*/shards/000001/features.json")):  # rank 1 has written a batch
        assert run.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process_of_rank(1, run.pid), signal.SIGKILL)
    assert run.wait(timeout=GOOD_FOR_S) != 0
    assert not list(together.glob("cache/*/patch_embeddings.float16"))
    assert list(together.glob("cache/*/shards/000001/*.partial"))

    prompts = arguments_of(MINI, clip_path, tmp_path / "prompts", "--epochs", 1)
    apart = arguments_of(MINI, clip_path, tmp_path / "cache of {rank}", *VAND)
    other = arguments_of(tmp_path / "data of {rank}", clip_path, tmp_path / "other", *VAND)
    (tmp_path / "data of 0").symlink_to(MINI)
    (tmp_path / "data of 1").symlink_to(data)
    again = start([apart, other, arguments, prompts], tmp_path / "log")
    try:
        done = acl(*arguments_of(data, clip_path, alone, *VAND))
        assert done.exit_code == 0, done.output
        assert again.wait(timeout=GOOD_FOR_S) == 0, (tmp_path / "log").read_text()
    finally:
        again.terminate()
        again.wait()
    assert cache_files(together) == cache_files(alone)
    ours, theirs = (load_prompts(folder / "p.safetensors").tensors for folder in (together, alone))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6)
    losses = [
        [json.loads(line)["loss"] for line in (folder / "p.log.jsonl").read_text().splitlines()]
        for folder in (together, alone)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    log = (tmp_path / "log").read_text()
    assert (
        log.count("rank 1: the feature cache is filled; what anomalyclip learns is small, and rank 0 learns")
        == 1
    )
    assert log.count("prompts learned") == 2  # of either method, by the first process
    assert (tmp_path / "prompts" / "p.safetensors").exists()
    assert log.count("is another folder for rank 1 than for rank 0; pass --cache DIR on a disk that all") == 2
    assert log.count("the processes were not given the same: rank 1 has other data, weights, settings") == 2


if __name__ == "__main__":
    from acl_runtime.cli import app
    from acl_train.distributed import join_group

    with join_group():
        for command in json.loads(sys.argv[1]):
            with suppress(SystemExit):
                app([word.replace("{rank}", os.environ["RANK"]) for word in command])
