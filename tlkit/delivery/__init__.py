"""Delivery: a trained run put to use."""
