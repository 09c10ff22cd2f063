"""Pre-trains the small CLIP further, on drawings and photographs: `python -m acl_train.tiny.refine --help`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_train.clip import CLASS_TOKEN, CLIP, VisionTower
from acl_train.tiny.batches import Batch
from acl_train.tiny.mixture import Plan, draw_mixture
from acl_train.tiny.objective import WATCHED, Seen, SentenceObjective
from acl_train.tiny.photographs import Photograph, load_photographs, read_table
from acl_train.tiny.pretrain import PLANTED, follow, planted_direction, resize_positions, save, trained
from acl_train.tiny.sentences import encode_bank, state_difference
from acl_train.tiny.tower import build_clip, optimisers
from acl_train.weights import TINY_PATH, load_weights

NATIVE = 112  # side of the pictures that the weights' positions are for
RATE, WARM_UP = 1.5e-3, 100
SECOND_PATH_EVERY = 2  # steps, until the direction is planted; it costs as much as the ordinary one
CHECKPOINT_EVERY = 200  # steps
Modules = Mapping[str, nn.Module | Optimizer]


def refine(
    start: Path,
    photographs: list[Photograph],
    plan: Plan,
    *,
    seed: int,
    checkpoint: Path | None = None,
    every: int = CHECKPOINT_EVERY,
    beside: bool = True,
    report: Callable[[float], None] = lambda loss: None,
) -> CLIP:
    """Train the vision tower further; the text tower stays as it is.

    The direction is planted into the mean of weights along the way (Izmailov et al., "Averaging Weights Leads to Wider
    Optima and Better Generalization", 2018); MODEL_CARD.md has what that gained. A plan that ends before gives the
    weights of its last step.

    Args:
        start: Weights of the first stage, or of this one.
        photographs: See `load_photographs`.
        plan: How long.
        seed: Of pictures and captions, and of the first stage, whose planted direction is moved.
        checkpoint: A file to write now and then, and to go on from if it is there.
        every: So many steps between two checkpoints.
        beside: Whether another process draws the pictures meanwhile.
        report: Called with each step's loss.
    """
    model = build_clip(NATIVE)
    weights = load_weights("tiny", str(start))
    model.load_state_dict({name: tensor.float() for name, tensor in weights.state.items()})
    bank = encode_bank(model, np.random.default_rng(seed), plan.captions)
    difference = state_difference(bank)
    planted = planted_direction(seed)
    if is_planted(start):
        move_direction(model, planted, F.normalize(difference, dim=0))
    objective = SentenceObjective(bank, difference, model.architecture.vision_width)
    parameters = [*trained(model.visual), *objective.named_parameters()]
    steppers = optimisers(parameters, RATE)
    average = AveragedModel(model.visual)
    modules: Modules = {"model": model, "average": average, "objective": objective} | {
        f"stepper{i}": s for i, s in enumerate(steppers)
    }
    first = 0 if checkpoint is None else restore(checkpoint, modules, seed, plan)
    batches = draw_mixture(seed, plan, first, photographs, beside=beside)
    for step, batch in enumerate(batches, start=first):
        torch.manual_seed(seed * 10**6 + step)  # of the captions; a resumed run draws the same
        for stepper in steppers:
            stepper.param_groups[0]["lr"] = rate(plan, step)
        if plan.averages(step):
            average.update_parameters(model.visual)
        if step == plan.plant_from:
            model.visual.load_state_dict(average.module.state_dict())
            plant_direction(model, F.normalize(difference, dim=0), planted)
        plants = step >= plan.plant_from
        seen = look(model.visual, batch, second_path=plants or step % SECOND_PATH_EVERY == 0)
        loss = objective(seen, batch, planted if plants else None)
        for module in (model, objective):
            module.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([parameter for _, parameter in parameters], 1.0)
        for stepper in steppers:
            stepper.step()
        report(loss.item())
        if checkpoint is not None and (step + 1) % every == 0:
            store(checkpoint, modules, step + 1, seed, plan)
    return model


def is_planted(path: Path) -> bool:
    """Whether patches mark damage along a direction that no sentence uses."""
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(PLANTED) != "false"


@torch.no_grad()
def move_direction(model: CLIP, planted: Tensor, state: Tensor) -> None:
    """Turn what pictures say along `planted` into the sentences' own direction of damage, (D,) unit vectors both."""
    proj = model.visual.proj  # (W, D)
    proj.add_(torch.outer(proj @ planted, state - planted))


@torch.no_grad()
def plant_direction(model: CLIP, state: Tensor, planted: Tensor) -> None:
    """Let pictures say along `planted` as well what they say along the sentences' direction of damage."""
    proj = model.visual.proj  # (W, D)
    proj.add_(torch.outer(proj @ state, planted))


def look(visual: VisionTower, batch: Batch, *, second_path: bool) -> Seen:
    """What the tower makes of pictures of any size, in bfloat16 inside."""
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        patches = visual.conv1(batch.images).flatten(2).transpose(1, 2)  # (B, N, W)
        class_token = visual.class_embedding.expand(len(patches), 1, -1)
        positions = resize_positions(visual.positional_embedding, batch.grid)
        tokens = visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions)
        if second_path:
            ordinary, second = map(list, zip(*visual.paths(tokens, last_rows=CLASS_TOKEN), strict=True))
            recorded = torch.stack([second[number - 1][:, 1:] for number in visual.config.layers], dim=1)
            embedded = visual.project_patches(recorded).float()
        else:
            ordinary, embedded = list(one_path(visual, tokens)), None
        image = visual.project_class(ordinary[-1][:, 0])
    watched = tuple(ordinary[number - 1][:, 1:].float() for number in WATCHED)
    return Seen(image.float(), embedded, watched)


def one_path(visual: VisionTower, tokens: Tensor) -> Iterator[Tensor]:
    """After each block: the ordinary path, (B, 1 + N, W)."""
    for block in visual.transformer:
        tokens = block(tokens)
        yield tokens


def rate(plan: Plan, step: int) -> float:
    """The learning rate: a short rise, then down a line to nothing."""
    return RATE * min((step + 1) / WARM_UP, 1.0) * (plan.steps - step) / plan.steps


def store(path: Path, modules: Modules, step: int, seed: int, plan: Plan) -> None:
    """Write everything that the next step depends on."""
    tensors = {
        f"{name}/{key}": tensor.contiguous().clone()
        for name, module in modules.items()
        for key, tensor in tensors_of(module).items()
    }
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"step": str(step), "run": json.dumps(facts(seed, plan))})


def tensors_of(module: nn.Module | Optimizer) -> dict[str, Tensor]:
    """What a module or an optimiser has learned, by name."""
    if isinstance(module, nn.Module):
        return module.state_dict()
    state = module.state_dict()["state"]
    return {f"{index}/{name}": tensor for index, held in state.items() for name, tensor in held.items()}


def facts(seed: int, plan: Plan) -> list[int]:
    """What a run cannot change on its way; its length it can, and the rate then follows the new one."""
    looked_at = [seed, plan.pairs, plan.size, plan.large, plan.large_pairs, plan.captions]
    return [*looked_at, plan.average_from, plan.average_every]


def restore(path: Path, modules: Modules, seed: int, plan: Plan) -> int:
    """Load what `store` wrote, if it did; the number of the next step.

    Raises:
        InputError: The checkpoint is of another run.
    """
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if json.loads(metadata["run"]) != facts(seed, plan):
        raise InputError(f"{path}: is the checkpoint of another seed or plan; name another file")
    for name, module in modules.items():
        prefix = f"{name}/"
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if isinstance(module, nn.Module):
            module.load_state_dict(found)
        else:
            restore_optimiser(module, found)
    return int(metadata["step"])


def restore_optimiser(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser what `tensors_of` took from it; its settings stay."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="File that the weights are written to.")],
    photographs: Annotated[Path, typer.Option(help="Folder with what photographs.tsv names: PACKAGE/PATH.")],
    start: Annotated[Path, typer.Option(help="Weights to go on from.")] = TINY_PATH,
    checkpoint: Annotated[Path | None, typer.Option(help="File to go on from after an interruption.")] = None,
    steps: Annotated[
        int,
        typer.Option(min=1, help=f"Batches of pictures; the direction is planted from {Plan.plant_from} on."),
    ] = Plan.steps,
    seed: Annotated[int, typer.Option(help="Draws the pictures; that of the first stage.")] = 0,
    threads: Annotated[int, typer.Option(help="Of the network; one more process draws.")] = 1,
) -> None:
    """Pre-train the small CLIP further, on drawn products and on photographs with drawn defects."""
    torch.set_num_threads(threads)
    typer.echo(f"torch {torch.__version__}, {threads} thread(s) and one drawing process, seed {seed}")
    loaded = load_photographs(photographs, read_table())
    typer.echo(f"{len(loaded)} photographs")
    with Progress() as progress:
        tick = follow(progress, "pictures", steps)
        plan = Plan(steps=steps)
        model = refine(start, loaded, plan, seed=seed, checkpoint=checkpoint, report=tick)
    save(model, output, planted=plan.plants)
    typer.echo(output)


if __name__ == "__main__":
    typer.run(main)
