"""The projection's peers, in the versions that the published figures were made with."""

# JAX stands for torch: PyPI's torch for Linux brings some gigabytes for GPUs, to multiply matrices.
PINS = {
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "scikit-learn": "1.9.1",
    "ml-dtypes": "0.6.0",
    "faiss-cpu": "1.15.1",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
}
NEEDED = ("numpy", "scipy", "scikit-learn", "ml-dtypes")  # by the bench itself
