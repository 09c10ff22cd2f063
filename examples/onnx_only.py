"""Find defects with a bundle's model.onnx and nothing of ours: numpy, pillow and onnxruntime.

python onnx_only.py bundle/model.onnx part.png map.png
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort
from PIL import Image


def load_rgb(path: str, side: int) -> np.ndarray:
    """An image file as (1, S, S, 3) uint8 RGB: Pillow's antialiased bicubic, squashed to a square."""
    image: Image.Image = Image.open(path)
    if image.mode in ("I", "F"):
        sys.exit(f"{path}: must have 8 or 16 bits per channel, got mode {image.mode}")
    if image.mode.startswith("I;16"):  # the upper 8 bits of the full range
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    has_alpha = image.has_transparency_data and image.mode not in ("1", "L", "RGB")
    image = image.convert("RGBA" if has_alpha else "RGB")  # alpha takes part in resizing, then is dropped
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))[None]


def main(model: str, image: str, output: str) -> None:
    """Print the score and write the map, black for 0 and white for 1, as an 8-bit PNG."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[1]  # (batch, S, S, 3)
    logits, maps = session.run(["image_logits", "anomaly_maps"], {"images": load_rgb(image, side)})
    print(f"score {1 / (1 + np.exp(-float(logits[0]))):.6f}, map peak {maps[0].max():.6f}")
    Image.fromarray(np.rint(maps[0].clip(0, 1) * 255).astype(np.uint8)).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit("usage: onnx_only.py MODEL.onnx IMAGE MAP.png")
