"""Evaluation: probabilities for images, and honest figures from them."""
