"""What a plan of TensorRT-RTX says of its kernels; it is built for GPUs and can be read without one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_TENSOR = re.compile(rb'tensor=\{[^\n]*?name="([^"]+)"[^\n]*? type=(\w+) \}')
_PRODUCT = re.compile(
    rb'fully_connected=\{ name="[^"]*"[^\n]*? input=\{([^}]*)\}[^\n]*? accumulation_type=(\d)'
)
_ATTENTION = rb"function={ name=_gemm_mha"
_SUMS = {b"0": "", b"2": ", sums in float"}  # 0 leaves it to the kernel


@dataclass(frozen=True)
class PlanContents:
    """Kernels of a plan.

    Attributes:
        fused_attention: Attentions in one kernel each.
        products: Products with weights, by their type in TensorRT's words, such as "int8" or "half, sums in float".
    """

    fused_attention: int
    products: Counter[str]

    @property
    def words(self) -> str:
        """The products in words: "39 int8, 4 float"."""
        return ", ".join(f"{count} {kind}" for kind, count in self.products.most_common())


def read_plan(plan: bytes) -> PlanContents:
    """Read which kernels a plan has.

    Args:
        plan: Built by TensorRT-RTX.
    """
    types = {name: kind.decode() for name, kind in _TENSOR.findall(plan)}
    products: Counter[str] = Counter()
    for inputs, accumulation in _PRODUCT.findall(plan):
        kinds = {types[name] for name in re.findall(rb'"([^"]+)"', inputs)[:2] if name in types}
        products[f"{'/'.join(sorted(kinds))}{_SUMS.get(accumulation, '')}"] += 1
    return PlanContents(plan.count(_ATTENTION), products)
