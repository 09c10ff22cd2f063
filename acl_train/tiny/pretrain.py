"""Pre-trains the small CLIP: `python -m acl_train.tiny.pretrain -o weights.safetensors --seed 0`."""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from acl_train.clip import CLIP
from acl_train.tiny.objective import CaptionMatch, direction_loss, fits, patch_loss
from acl_train.tiny.pairs import TRAINING_DEFECTS, TRAINING_FAMILIES, draw_pair
from acl_train.tiny.sentences import Bank, encode_bank, learn_sentences
from acl_train.tiny.tower import PATCH, build_clip, initialise, optimisers

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Pairs(Dataset[tuple[Tensor, Tensor, int, Tensor]]):
    """The drawn pairs of one stage as tensors: pictures, coverage, family, defects."""

    def __init__(self, seed: int, first: int, count: int, size: int) -> None:
        self.seed, self.first, self.count, self.size = seed, first, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, Tensor]:
        pair = draw_pair(self.seed, self.first + index, size=self.size, patch=PATCH)
        defects = torch.tensor([name in pair.defects for name in TRAINING_DEFECTS])
        family = TRAINING_FAMILIES.index(pair.family)
        return torch.from_numpy(pair.images), torch.from_numpy(pair.coverage), family, defects


def one_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def normalised(images: Tensor) -> Tensor:
    rgb = images.flatten(0, 1).flip(-1).permute(0, 3, 1, 2).float() / 255
    return (rgb - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def learn_pictures(model, match, bank, axes, args, *, size, first, steps, rate, final, progress, log):
    parameters = [
        (n, p) for n, p in model.named_parameters() if n.startswith("visual.") and "ln_post" not in n
    ]
    trained = [*parameters, *(("match." + n, p) for n, p in match.named_parameters())]
    opts = optimisers(trained, rate)
    schedule = [
        torch.optim.lr_scheduler.LambdaLR(
            o, lambda k: min(1, (k + 1) / 80) * (final + (1 - final) * 0.5 * (1 + np.cos(np.pi * k / steps)))
        )
        for o in opts
    ]
    loader = DataLoader(
        Pairs(args.seed, first, steps * args.batch, size),
        args.batch,
        num_workers=1,
        prefetch_factor=4,
        worker_init_fn=one_thread,
    )
    generator = torch.Generator().manual_seed(args.seed + first)
    bar = progress.add_task(f"{size} px", total=steps)
    tic = time.time()
    running = {}
    for step, (images, coverage, family, defects) in enumerate(loader):
        b = len(images)
        images = normalised(images)  # (2B)
        coverage = torch.stack([torch.zeros_like(coverage), coverage], 1).flatten(0, 1).flatten(1)  # (2B, GG)
        family = family.repeat_interleave(2)
        defects = torch.stack([torch.zeros_like(defects), defects], 1).flatten(0, 1)
        damaged = torch.arange(2 * b) % 2 == 1
        chosen = torch.randint(len(bank.family), (512,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            cls, patches = model.visual(images)
        cls, patches = cls.float(), patches.float()
        true = fits(bank, chosen, damaged, family, defects)
        losses = {"match": match(cls, bank.embeddings[chosen], true)}
        if args.state:
            losses["state"] = direction_loss(cls, axes[args.state], damaged.float())
        if args.dense:
            w = torch.tensor([float(x) for x in args.layer_weights.split(",")])
            losses["dense"] = args.dense_weight * sum(
                w[i] / w.sum() * patch_loss(patches[:, i : i + 1], axes[args.dense], coverage)
                for i in range(4)
            )
        loss = sum(losses.values())
        for o in opts:
            o.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
        for o, s in zip(opts, schedule):
            o.step()
            s.step()
        with torch.no_grad():
            losses["acc_s"] = ((cls @ axes["text"]).view(-1, 2).diff(dim=1) > 0).float().mean()
            losses["acc_u"] = ((cls @ axes["aux"]).view(-1, 2).diff(dim=1) > 0).float().mean()
        for k, v in losses.items():
            running[k] = 0.98 * running.get(k, v.item()) + 0.02 * v.item()
        progress.update(bar, advance=1)
        if step % 50 == 0 or step == steps - 1:
            print(
                f"{size} {step} {time.time() - tic:.0f}s "
                + " ".join(f"{k} {v:.3f}" for k, v in running.items()),
                file=log,
                flush=True,
            )


def grown(model: CLIP, size: int) -> CLIP:
    larger = build_clip(size)
    state = model.state_dict()
    old = state["visual.positional_embedding"]
    g, G = model.visual.grid, size // PATCH
    p = F.interpolate(old[1:].T.reshape(1, -1, g, g), (G, G), mode="bilinear", align_corners=False)
    state["visual.positional_embedding"] = torch.cat([old[:1], p.flatten(2)[0].T])
    larger.load_state_dict(state)
    return larger


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("-o", "--output", required=True)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--steps", type=int, default=600)
    ap.add_argument("--steps2", type=int, default=0)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--rate", type=float, default=1.5e-3)
    ap.add_argument("--state", default="")
    ap.add_argument("--dense", default="")
    ap.add_argument("--dense_weight", type=float, default=1.0)
    ap.add_argument("--layer_weights", default="1,1,1,1")
    ap.add_argument("--text", default="")
    ap.add_argument("--text_steps", type=int, default=500)
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    log = open(str(args.output) + ".log", "w")
    model = build_clip(64)
    initialise(model)
    directions = torch.linalg.qr(torch.randn(128, 128)).Q
    axes = {"text": directions[1], "aux": directions[-1]}
    rng = np.random.default_rng(args.seed)
    t = time.time()
    with Progress() as progress:
        if args.text and os.path.exists(args.text):
            old = torch.load(args.text)
            model.load_state_dict(old["model"])
            axes = old["axes"]
            bank = Bank(*old["bank"])
        else:
            bar = progress.add_task("text", total=args.text_steps)
            hist = []

            def rep(l):
                progress.update(bar, advance=1)
                hist.append(l)
                if len(hist) % 50 == 0:
                    print("text", len(hist), f"{time.time() - t:.0f}s", l, file=log, flush=True)

            learn_sentences(model, directions, rng, steps=args.text_steps, report=rep)
            bank = encode_bank(model, rng, 4096)
            if args.text:
                torch.save(
                    {
                        "model": model.state_dict(),
                        "axes": axes,
                        "bank": (bank.embeddings, bank.damaged, bank.family, bank.defect),
                    },
                    args.text,
                )
        match = CaptionMatch()
        learn_pictures(
            model,
            match,
            bank,
            axes,
            args,
            size=64,
            first=0,
            steps=args.steps,
            rate=args.rate,
            final=0.2 if args.steps2 else 0.02,
            progress=progress,
            log=log,
        )
        if args.steps2:
            model = grown(model, 112)
            learn_pictures(
                model,
                match,
                bank,
                axes,
                args,
                size=112,
                first=10**7,
                steps=args.steps2,
                rate=args.rate * 0.2,
                final=0.05,
                progress=progress,
                log=log,
            )
    torch.save({"model": model.state_dict(), "axes": axes, "size": 112 if args.steps2 else 64}, args.output)
    print("done", time.time() - t, file=log, flush=True)


if __name__ == "__main__":
    main()
