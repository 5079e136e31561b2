"""Backbones, their weights, heads, and the models made of them."""
