"""The commands; the only part that knows gin."""
