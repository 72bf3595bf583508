"""JAX's ways, compiled by XLA: the chunks one after the other in a scan.

They also stand where torch cannot be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attentions.tools import Job, Step, Tool, library


class Scan(Tool):
    """Causal linear attention, chunk after chunk, all heads at once."""

    modes = ("new",)
    package = "jax"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.jax = library("jax")
        self.arrays = [self.jax.device_put(x) for x in job.arrays]
        self.compiled = self.jax.jit(self.forward)

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        jax, np, chunk = self.jax, self.jax.numpy, self.job.chunk
        _, heads, length, dim = q.shape
        lower = np.tril(np.ones((chunk, chunk), dtype=bool))

        def one(carried: Any, piece: Any) -> Any:
            state, total = carried
            features_q, features_k, values = piece
            scores = np.einsum("hcd,hsd->hcs", features_q, features_k)
            scores = np.where(lower, scores, 0)
            outputs = scores @ values + features_q @ state
            sums = scores.sum(2) + np.einsum("hcd,hd->hc", features_q, total)
            state = state + np.einsum("hcd,hcv->hdv", features_k, values)
            return (state, total + features_k.sum(1)), outputs / sums[..., None]

        def pieces(x: Any) -> Any:
            return x.reshape(heads, length // chunk, chunk, dim).swapaxes(0, 1)

        start = (np.zeros((heads, dim, dim)), np.zeros((heads, dim)))
        mapped = (pieces(jax.nn.elu(q) + 1), pieces(jax.nn.elu(k) + 1), pieces(v))
        _, outputs = jax.lax.scan(one, start, mapped)
        return outputs.swapaxes(0, 1).reshape(q.shape)

    def apply(self, out: Any) -> Any:
        return self.jax.block_until_ready(self.compiled(*self.arrays))


class ScanGradient(Scan):
    """Forward and backward of the same."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._dout = self.jax.device_put(job.inputs.dout.transpose(0, 2, 1, 3))

        def both(q: Any, k: Any, v: Any, dout: Any) -> Any:
            _, back = self.jax.vjp(self.forward, q, k, v)
            return back(dout)

        self.compiled = self.jax.jit(both)

    def apply(self, out: Any) -> Any:
        return self.jax.block_until_ready(self.compiled(*self.arrays, self._dout))

    def outputs(self, made: Any) -> Sequence[Any]:
        return [each for array in made for each in super(ScanGradient, self).outputs(array)]


class JaxStep(Step):
    """A step whose state is given to the call, which may write over it."""

    package = "jax"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        jax = self.jax = library("jax")
        np = jax.numpy
        self.tokens = [tuple(jax.device_put(x[0]) for x in token) for token in self.tokens]

        def plain(state: Any, total: Any, q: Any, k: Any, v: Any) -> Any:
            state = state + k[:, :, None] * v[:, None, :]
            return state, total, np.einsum("hd,hdv->hv", q, state) * q.shape[-1] ** -0.5

        def normalised(state: Any, total: Any, q: Any, k: Any, v: Any) -> Any:
            q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
            state, total = state + k[:, :, None] * v[:, None, :], total + k
            outputs = np.einsum("hd,hdv->hv", q, state)
            return state, total, outputs / np.einsum("hd,hd->h", q, total)[:, None]

        self._step = jax.jit(plain if self.plain else normalised, donate_argnums=(0, 1))

    def start(self) -> None:
        heads, dim = self.job.inputs.shape.heads, self.job.inputs.shape.dim
        np = self.jax.numpy
        self._state, self._total = np.zeros((heads, dim, dim)), np.zeros((heads, dim))

    def call(self, token: Any) -> Callable[[], Any]:
        def step() -> Any:
            self._state, self._total, out = self._step(self._state, self._total, *token)
            return out.block_until_ready()

        return step
