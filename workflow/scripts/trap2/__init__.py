"""TRAP²: training-time protection of fine-tuned updates against model merging.

The library behind the workflow.  docs/architecture.md lists its rooms in order; a room imports
only rooms that stand before it there.
"""
