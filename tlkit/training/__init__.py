"""Training: stages, the loop, and the checkpoint that makes it exact to resume."""
