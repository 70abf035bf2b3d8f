"""Attacks that undo a protection's transform, and two that subtract or project it away."""
