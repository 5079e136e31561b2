"""Looking for what suits the data best: which backbone, which settings, in how much time."""
