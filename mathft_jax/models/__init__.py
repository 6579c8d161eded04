"""One transformer, and the two roles it plays."""
