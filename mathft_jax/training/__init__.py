"""Step, state and loop of fine-tuning."""
