"""Updates ΔW: factors, checkpoints, adapter files, trainable, applied at a scale."""
