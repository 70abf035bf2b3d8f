"""Attacks: who merges a protected update anyway."""
