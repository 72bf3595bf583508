"""Make embeddings six times smaller, and see what that did to their distances and neighbours."""

import tempfile
from pathlib import Path

import numpy as np

from corekit.projection import SparseProjection, distortion, epsilon_for

FEATURES, COMPONENTS = 768, 128

# 5000 vectors around 200 topics, as an encoder of text would give them.
random = np.random.default_rng(0)
topics = random.standard_normal((200, FEATURES), dtype=np.float32)
embeddings = topics[random.integers(200, size=5000)]
embeddings += 0.7 * random.standard_normal(embeddings.shape, dtype=np.float32)

# The matrix is its parameters. Keep them, and vectors of any later day can be projected alike.
projection = SparseProjection(FEATURES, COMPONENTS, seed=2026)
small = projection.project(embeddings)
print(f"{projection}: {embeddings.nbytes:,} bytes to {small.nbytes:,}")

# What to expect of any data, and what it was on these.
within = epsilon_for(None, COMPONENTS, quantile=0.9)
print(f"expected: 90 % of the pairs keep their squared distance within ±{within:.3f}")
report = distortion(embeddings, small, eps=within, seed=1)
print(report)
assert report.rms < 1.25 * report.expected_rms

# One query against all: candidates come from the small vectors, the order from the whole ones.
query, others = embeddings[0], embeddings[1:]
wanted = np.argsort(((others - query) ** 2).sum(axis=1))[:10]
candidates = np.argsort(((small[1:] - projection.project(query[np.newaxis])) ** 2).sum(axis=1))
candidates = candidates[:100]
found = candidates[np.argsort(((others[candidates] - query) ** 2).sum(axis=1))][:10]
print(f"of the 10 nearest, {len(set(wanted) & set(found))} are found among 100 candidates")
assert len(set(wanted) & set(found)) >= 8

# A file that may be larger than memory: the same values.
with tempfile.TemporaryDirectory() as name:
    source, target = Path(name) / "embeddings.npy", Path(name) / "small.npy"
    np.save(source, embeddings)
    projection.project_file(source, target, memory_limit="64MiB", threads=1)
    assert np.array_equal(np.load(target), small)
print("the file holds the same values, bit for bit")
