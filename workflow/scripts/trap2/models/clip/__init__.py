"""CLIP through open_clip: towers, heads, pretraining."""
