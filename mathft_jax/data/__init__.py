"""SeqIO features, preprocessors and converters: text to batches."""
