"""The registry of tools."""

from __future__ import annotations

from collections.abc import Callable

from attentions import jax_tools, torch_tools
from attentions.tools import (
    Copy,
    Corekit,
    CorekitGradient,
    CorekitStep,
    FastTransformers,
    Fma,
    Job,
    Read,
    Tool,
)

TOOLS: dict[str, Callable[[Job], Tool]] = {
    "corekit": Corekit,
    "corekit-gradient": CorekitGradient,
    "corekit-step": CorekitStep,
    "corekit-tail": CorekitStep,
    "torch-sdpa": torch_tools.Sdpa,
    "torch-einsum": torch_tools.Einsum,
    "torch-chunk": torch_tools.Chunk,
    "torch-chunk-gradient": torch_tools.ChunkGradient,
    "torch-loop": torch_tools.Loop,
    "torch-loop-gradient": torch_tools.LoopGradient,
    "torch-step": torch_tools.TorchStep,
    "torch-tail": torch_tools.TorchStep,
    "jax-scan": jax_tools.Scan,
    "jax-scan-gradient": jax_tools.ScanGradient,
    "jax-step": jax_tools.JaxStep,
    "fast-transformers": FastTransformers,
    "fma": Fma,
    "read": Read,
    "copy": Copy,
}
