"""TRAP² in other people's training loops."""
