"""From graded, scored candidates to one answer a problem."""
