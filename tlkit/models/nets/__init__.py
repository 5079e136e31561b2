"""The classic nets, one paper a file: functions from an image to a feature map, and from there to logits."""
