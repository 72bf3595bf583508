"""torch's ways, written as well as one can in torch: products of batches, no loop over tokens.

All work on contiguous ``[B, H, T, D]``, which suits them best, and fold batch and heads.

- *chunk*: all chunks at once. Scores and outputs inside of the chunks are products of B H T / C
  matrices; the states before them a cumulative sum over the states of the chunks.
- *loop*: one chunk after the other, all heads at once. What it works on stays in the cache, which
  more than pays for the loop in Python once a sequence is long.

With `prepare` everything is allocated before, not only the output. The gradients are autograd's,
through the same two forms; an operator that writes into a given array has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from attentions.tools import Job, Step, Tool, library


class _Torch(Tool):
    package = "torch"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.torch = library("torch")
        self.torch.set_num_threads(job.threads)
        self.torch.set_grad_enabled(False)
        self.q, self.k, self.v = map(self.torch.from_numpy, job.arrays)

    def elu1(self, x: Any) -> Any:
        return self.torch.nn.functional.elu(x) + 1

    def elu1_into(self, x: Any, out: Any) -> None:
        self.torch._C._nn.elu(x, out=out)
        out.add_(1)


class Sdpa(_Torch):
    """Softmax attention as it comes: the flash kernel for CPUs."""

    modes = ("new",)

    def apply(self, out: Any) -> Any:
        attend = self.torch.nn.functional.scaled_dot_product_attention
        return attend(self.q, self.k, self.v, is_causal=True)


class Einsum(_Torch):
    """Linear attention that is not causal: two products."""

    modes = ("new",)

    def apply(self, out: Any) -> Any:
        q, k = self.elu1(self.q), self.elu1(self.k)
        state = self.torch.einsum("bhtd,bhtv->bhdv", k, self.v)
        sums = self.torch.einsum("bhtd,bhd->bht", q, k.sum(2))
        return self.torch.einsum("bhtd,bhdv->bhtv", q, state).div_(sums[..., None])


class Chunk(_Torch):
    """All chunks at once."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        batch, heads, length, self.dim = self.q.shape
        self.folded, self.number = batch * heads, length // job.chunk

    def prepare(self) -> Any:
        return _ChunkSpace(self)

    def apply(self, out: Any) -> Any:
        return self.functional(self.q, self.k, self.v) if out is None else out.run()

    def functional(self, q: Any, k: Any, v: Any) -> Any:
        torch, dim = self.torch, self.dim
        folded, number, chunk = self.folded, self.number, self.job.chunk
        chunks = (folded * number, chunk, dim)
        features_q, features_k = (self.elu1(x).view(chunks) for x in (q, k))
        values = v.view(chunks)
        scores = torch.bmm(features_q, features_k.transpose(1, 2)).tril()
        states = torch.bmm(features_k.transpose(1, 2), values).view(folded, number, dim, dim)
        totals = features_k.view(folded, number, chunk, dim).sum(2)
        before = self._before(states).reshape(-1, dim, dim)
        counted = self._before(totals).reshape(-1, dim, 1)
        outputs = torch.baddbmm(torch.bmm(scores, values), features_q, before)
        sums = torch.baddbmm(scores.sum(2, keepdim=True), features_q, counted)
        return (outputs / sums).view(q.shape)

    def _before(self, pieces: Any) -> Any:
        """Return the sums of what comes before each chunk."""
        shifted = self.torch.cat((self.torch.zeros_like(pieces[:, :1]), pieces[:, :-1]), 1)
        return shifted.cumsum(1)


class _ChunkSpace:
    """The arrays of `Chunk`, and the same computation into them."""

    def __init__(self, tool: Chunk) -> None:
        self.tool = tool
        torch, chunk, dim = tool.torch, tool.job.chunk, tool.dim
        folded, number = tool.folded, tool.number
        self.features = [torch.zeros(folded * number, chunk, dim) for _ in range(2)]
        self.scores = torch.zeros(folded * number, chunk, chunk)
        self.pieces = torch.zeros(folded * number, dim, dim)
        self.totals = torch.zeros(folded, number, dim)
        # One more than there are chunks: the sums with a zero in front.
        self.states = torch.zeros(folded, number + 1, dim, dim)
        self.counts = torch.zeros(folded, number + 1, dim)
        self.before = torch.zeros(folded, number, dim, dim)
        self.sums = torch.zeros(folded * number, chunk, 1)
        self.out = torch.zeros(folded * number, chunk, dim)

    def run(self) -> Any:
        tool, torch = self.tool, self.tool.torch
        chunk, dim, folded, number = tool.job.chunk, tool.dim, tool.folded, tool.number
        q, k = self.features
        for x, features in ((tool.q, q), (tool.k, k)):
            tool.elu1_into(x, features.view(x.shape))
        values = tool.v.view(self.out.shape)
        torch.bmm(q, k.transpose(1, 2), out=self.scores)
        self.scores.tril_()
        torch.bmm(k.transpose(1, 2), values, out=self.pieces)
        pieces = self.pieces.view(folded, number, dim, dim)
        torch.cumsum(pieces, 1, out=self.states[:, 1:])
        torch.sum(k.view(folded, number, chunk, dim), 2, out=self.totals)
        torch.cumsum(self.totals, 1, out=self.counts[:, 1:])
        self.before.copy_(self.states[:, :-1])
        torch.bmm(self.scores, values, out=self.out)
        self.out.baddbmm_(q, self.before.view(-1, dim, dim))
        torch.sum(self.scores, 2, keepdim=True, out=self.sums)
        self.sums.baddbmm_(q, self.counts[:, :-1].reshape(-1, dim, 1))
        return self.out.div_(self.sums).view(tool.q.shape)


class Loop(_Torch):
    """One chunk after the other."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        batch, heads, self.length, self.dim = self.q.shape
        self.folded = batch * heads

    def prepare(self) -> Any:
        return _LoopSpace(self)

    def apply(self, out: Any) -> Any:
        return self.functional(self.q, self.k, self.v) if out is None else out.run()

    def pieces(self, x: Any) -> Sequence[Any]:
        """Return the chunks of an array as views."""
        folded = x.view(self.folded, self.length, self.dim)
        found: Sequence[Any] = folded.split(self.job.chunk, 1)
        return found

    def functional(self, q: Any, k: Any, v: Any) -> Any:
        torch = self.torch
        state = q.new_zeros(self.folded, self.dim, self.dim)
        total = q.new_zeros(self.folded, self.dim, 1)
        outputs = []
        for some_q, some_k, values in zip(*map(self.pieces, (q, k, v)), strict=True):
            features_q, features_k = self.elu1(some_q), self.elu1(some_k)
            turned = features_k.transpose(1, 2)
            scores = torch.bmm(features_q, turned).tril()
            output = torch.baddbmm(torch.bmm(scores, values), features_q, state)
            sums = torch.baddbmm(scores.sum(2, keepdim=True), features_q, total)
            outputs.append(output / sums)
            state = torch.baddbmm(state, turned, values)
            total = total + features_k.sum(1)[..., None]
        return torch.cat(outputs, 1).view(q.shape)


class _LoopSpace:
    """The arrays of `Loop`, and the same computation into them."""

    def __init__(self, tool: Loop) -> None:
        self.tool = tool
        torch, chunk, dim, folded = tool.torch, tool.job.chunk, tool.dim, tool.folded
        self.features = [torch.zeros(folded, chunk, dim) for _ in range(2)]
        self.scores = torch.zeros(folded, chunk, chunk)
        self.state, self.total = torch.zeros(folded, dim, dim), torch.zeros(folded, dim, 1)
        self.piece, self.count = torch.zeros(folded, chunk, dim), torch.zeros(folded, 1, dim)
        self.sums = torch.zeros(folded, chunk, 1)
        self.out = torch.zeros(tool.q.shape)

    def run(self) -> Any:
        tool, torch = self.tool, self.tool.torch
        features_q, features_k = self.features
        turned = features_k.transpose(1, 2)
        self.state.zero_()
        self.total.zero_()
        arrays = (tool.q, tool.k, tool.v, self.out)
        for some_q, some_k, values, out in zip(*map(tool.pieces, arrays), strict=True):
            tool.elu1_into(some_q, features_q)
            tool.elu1_into(some_k, features_k)
            torch.bmm(features_q, turned, out=self.scores)
            self.scores.tril_()
            torch.bmm(self.scores, values, out=self.piece)
            self.piece.baddbmm_(features_q, self.state)
            torch.sum(self.scores, 2, keepdim=True, out=self.sums)
            self.sums.baddbmm_(features_q, self.total)
            torch.div(self.piece, self.sums, out=out)
            self.state.baddbmm_(turned, values)
            torch.sum(features_k, 1, keepdim=True, out=self.count)
            self.total.add_(self.count.transpose(1, 2))
        return self.out


class _Gradient(_Torch):
    """Forward and backward through autograd."""

    modes = ("new",)
    form: ClassVar[type[Chunk | Loop]]

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._form = self.form(job)
        self._dout = self.torch.from_numpy(job.inputs.dout.transpose(0, 2, 1, 3).copy())
        for x in (self.q, self.k, self.v):
            x.requires_grad_(True)

    def apply(self, out: Any) -> Any:
        with self.torch.enable_grad():
            made = self._form.functional(self.q, self.k, self.v)
            return self.torch.autograd.grad(made, (self.q, self.k, self.v), self._dout)

    def outputs(self, made: Any) -> Sequence[Any]:
        return [each.numpy().transpose(0, 2, 1, 3) for each in made]


class ChunkGradient(_Gradient):
    form = Chunk


class LoopGradient(_Gradient):
    form = Loop


class TorchStep(Step):
    """A step in place, with everything allocated before."""

    package = "torch"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        torch = self.torch = library("torch")
        torch.set_num_threads(job.threads)
        torch.set_grad_enabled(False)
        heads, dim = job.inputs.shape.heads, job.inputs.shape.dim
        self.tokens = [tuple(map(torch.from_numpy, token)) for token in self.tokens]
        self._state, self._total = torch.zeros(heads, dim, dim), torch.zeros(heads, dim)
        self._out, self._sums = torch.zeros(heads, 1, dim), torch.zeros(heads, 1, 1)
        self._features = [torch.zeros(heads, dim) for _ in range(2)]

    def start(self) -> None:
        self._state.zero_()
        self._total.zero_()

    def call(self, token: Any) -> Callable[[], Any]:
        bmm, state, out = self.torch.bmm, self._state, self._out
        q, k, v = (x[0] for x in token)
        rows, columns, values = q[:, None], k[:, :, None], v[:, None]
        if self.plain:
            scale = q.shape[-1] ** -0.5

            def plain() -> Any:
                state.baddbmm_(columns, values)
                bmm(rows, state, out=out)
                return out.mul_(scale)

            return plain
        elu, total, sums = self.torch._C._nn.elu, self._total, self._sums
        some_q, some_k = self._features

        def normalised() -> Any:
            elu(q, out=some_q).add_(1)
            elu(k, out=some_k).add_(1)
            state.baddbmm_(some_k[:, :, None], values)
            total.add_(some_k)
            bmm(some_q[:, None], state, out=out)
            bmm(some_q[:, None], total[:, :, None], out=sums)
            return out.div_(sums)

        return normalised

    def with_threads(self, threads: int) -> Callable[[], Any]:
        """Return a call of the first token with a number of threads."""
        set_threads, call = self.torch.set_num_threads, self.call(self.tokens[0])

        def both() -> None:
            set_threads(threads)
            call()

        return both
