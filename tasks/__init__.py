"""SeqIO tasks; importing a module here registers its tasks."""
