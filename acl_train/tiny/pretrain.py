"""Pre-trains the small CLIP: `python -m acl_train.tiny.pretrain -o weights.safetensors --seed 0`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
import typer
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from acl_train.clip import CLIP
from acl_train.tiny.batches import Batch, draw_batches
from acl_train.tiny.captions import every_word
from acl_train.tiny.objective import Objective
from acl_train.tiny.sentences import encode_bank, learn_sentences
from acl_train.tiny.tower import PATCH, build_clip, initialise, optimisers

PAIRS = 32  # per step; each is two pictures
SENTENCE_STEPS = 300
WARM_UP = 80
CAPTIONS = 4096
PLANTED = "planted_direction"  # in a file of weights: true or false; the first edition does not say it


@dataclass(frozen=True)
class Stage:
    """One stretch of training at one picture size; the rate falls along a cosine."""

    size: int
    steps: int
    first_rate: float
    last_rate: float


STAGES = (Stage(64, 1800, 1.5e-3, 3e-4), Stage(112, 300, 3e-4, 1.5e-5))


def pretrain(seed: int, progress: Progress) -> CLIP:
    """The small CLIP, trained from nothing: sentences first, then pictures with the text tower frozen."""
    model, directions = begin(seed)
    rng = np.random.default_rng(seed)
    tick = follow(progress, "sentences", SENTENCE_STEPS)
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention's backward pass is slow on CPUs
        learn_sentences(model, directions, rng, steps=SENTENCE_STEPS, report=tick)
    objective = Objective(encode_bank(model, rng, CAPTIONS), auxiliary=directions[-1], state=directions[1])
    for number, stage in enumerate(STAGES):
        model = enlarged(model, stage.size)
        tick = follow(progress, f"pictures of {stage.size} px", stage.steps)
        learn_pictures(model, objective, stage, seed=seed, first=number * 10**7, report=tick)
    return model


def begin(seed: int) -> tuple[CLIP, Tensor]:
    """The network with starting values, and (D, D) orthogonal directions that give captions and damage their places."""
    torch.manual_seed(seed)
    model = build_clip(STAGES[0].size)
    initialise(model)
    return model, torch.linalg.qr(torch.randn(2 * [model.architecture.embed_dim])).Q


def planted_direction(seed: int) -> Tensor:
    """(D,) the direction along which the pictures' part of this file's training marks damage."""
    return begin(seed)[1][-1]


def follow(progress: Progress, name: str, steps: int) -> Callable[[float], None]:
    """A new bar; the function moves it on by a step and shows the loss."""
    bar = progress.add_task(name, total=steps)
    return lambda loss: progress.update(bar, advance=1, description=f"{name}, loss {loss:.3f}")


def learn_pictures(
    model: CLIP, objective: Objective, stage: Stage, *, seed: int, first: int, report: Callable[[float], None]
) -> None:
    """Train the vision tower on the stage's pairs, numbered from `first`."""
    parameters = [*trained(model.visual), *objective.named_parameters()]
    steppers = optimisers(parameters, stage.first_rate)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: rate(stage, step)) for o in steppers]
    for batch in draw_batches(seed, first, steps=stage.steps, pairs=PAIRS, size=stage.size):
        loss = forward(model, objective, batch)
        model.zero_grad()
        objective.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([parameter for _, parameter in parameters], 1.0)
        for stepper, schedule in zip(steppers, schedules, strict=True):
            stepper.step()
            schedule.step()
        report(loss.item())


def trained(visual: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """All but ln_post, which stays the identity: the class token is read before it, the patches after it."""
    return [(name, p) for name, p in visual.named_parameters() if not name.startswith("ln_post")]


def forward(model: CLIP, objective: Objective, batch: Batch) -> Tensor:
    """The loss of a batch, the network in bfloat16."""
    # as above: in training, the fused attention takes more time than all the rest
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image_embeddings, patch_embeddings = model.visual(batch.images)
    return objective(image_embeddings.float(), patch_embeddings.float(), batch)  # type: ignore[no-any-return]


def rate(stage: Stage, step: int) -> float:
    """The learning rate at a step, as a share of the stage's first one."""
    last = stage.last_rate / stage.first_rate
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return min(1.0, (step + 1) / WARM_UP) * (last + (1 - last) * cosine)


def enlarged(model: CLIP, size: int) -> CLIP:
    """The same network for pictures of another size."""
    larger, state = build_clip(size), model.state_dict()
    key = "visual.positional_embedding"
    larger.load_state_dict(state | {key: resize_positions(state[key], size // PATCH)})
    return larger


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """(1 + N, W) positions of a square of patches for a square of `grid`² patches; the class token's stays."""
    side = math.isqrt(len(positions) - 1)
    patches = positions[1:].T.unflatten(1, (side, side))[None]  # (1, W, G, G)
    resized = F.interpolate(patches, (grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([positions[:1], resized[0].flatten(1).T])


def save(model: CLIP, path: Path, *, planted: bool) -> None:
    """Write the weights in half precision, and of the token table only the rows that captions use.

    Args:
        model: To write.
        path: Of the file.
        planted: Whether patches mark damage along a direction that no sentence uses; the file says so.
    """
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    ids = open_clip.tokenize(every_word()).unique().to(torch.int32)
    state["token_embedding.rows"] = state.pop("token_embedding.weight")[ids.long()].contiguous()
    state["token_embedding.ids"] = ids
    save_file(state, path, metadata={"quick_gelu": "true", PLANTED: str(planted).lower()})


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="File that the weights are written to.")],
    seed: Annotated[int, typer.Option(help="Draws the pictures and the starting weights.")] = 0,
    threads: Annotated[int, typer.Option(help="Of the network; one more process draws.")] = 1,
) -> None:
    """Pre-train the small CLIP on drawn products."""
    torch.set_num_threads(threads)
    typer.echo(f"torch {torch.__version__}, {threads} thread(s) and one drawing process, seed {seed}")
    with Progress() as progress:
        save(pretrain(seed, progress), output, planted=True)
    typer.echo(output)


if __name__ == "__main__":
    typer.run(main)
