"""The stages of the paper's recipe."""
