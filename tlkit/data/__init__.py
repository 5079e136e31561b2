"""From files or arrays to batches: index, decode, augment, pipeline."""
