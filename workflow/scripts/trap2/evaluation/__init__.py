"""Cells, scale sweeps, pairs, curvature and theorems."""
