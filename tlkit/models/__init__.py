"""Models: backbones, heads, weights, and how they become one graph that can be cut."""
