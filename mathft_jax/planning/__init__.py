"""What a run will need: memory, arithmetic, communication."""
