"""MathFT-JAX: fine-tunes language models to solve math problems."""
