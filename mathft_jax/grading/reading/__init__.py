"""The text of an answer -> a tree."""
