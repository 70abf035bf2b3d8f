"""Protections: TRAP²'s objective and the post-hoc defenses."""
