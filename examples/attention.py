"""Read a prompt, go on token by token, compare with softmax attention, and train."""

from typing import Any

import numpy as np

from corekit.attention import (
    Taylor,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)

TOKENS, HEADS, DIM = 2048, 4, 16
OPTIONS: dict[str, Any] = {"feature_map": Taylor(2), "normalize": True}

# One sequence, [batch, time, heads, size]. Scores q·k/√D have a standard deviation of 1/2.
random = np.random.default_rng(0)
q, k, v = random.standard_normal((3, 1, TOKENS, HEADS, DIM), dtype=np.float32)
q, k = q * 0.5**0.5, k * 0.5**0.5

# The prompt in one call. The state is all that is kept of it.
prompt = TOKENS - 100
out, state = linear_attention(
    q[:, :prompt], k[:, :prompt], v[:, :prompt], **OPTIONS, return_state=True
)
kept, cache = state.s.nbytes + state.z.nbytes, k.nbytes + v.nbytes
print(f"state: {kept:,} bytes, whatever the length; keys and values of {TOKENS:,}: {cache:,}")

# Then a token at a time, each at the same cost.
later = np.stack(
    [
        linear_attention_step(state, q[:, t], k[:, t], v[:, t], **OPTIONS)
        for t in range(prompt, TOKENS)
    ],
    axis=1,
)
whole = linear_attention(q, k, v, **OPTIONS)
assert np.allclose(np.concatenate([out, later], axis=1), whole, atol=1e-4)
print("piece by piece it is what it is as a whole")

# What softmax attention says of the same q, k and v.
exact = softmax_attention(q, k, v)
for order in (1, 2, 4):
    near = linear_attention(q, k, v, feature_map=Taylor(order), normalize=True)
    error = np.sqrt(np.mean((near - exact) ** 2) / np.mean(exact**2))
    print(f"{Taylor(order)}: {Taylor(order).n_features_for(DIM):,} features, off by {error:.1%}")
assert error < 0.02

# Training: move the values to where softmax attention's outputs are, by the gradient of half the
# squared distance.
target, values = exact, np.zeros_like(v)
losses = []
for _ in range(20):
    dout = linear_attention(q, k, values, **OPTIONS) - target
    losses.append(float(np.mean(dout**2)))
    values -= 0.4 * linear_attention_vjp(q, k, values, dout, **OPTIONS).v
print(f"20 steps of gradient descent: from {losses[0]:.4f} to {losses[-1]:.4f}")
assert losses[-1] < losses[0] / 4
