"""Weights that others made, in and out."""
