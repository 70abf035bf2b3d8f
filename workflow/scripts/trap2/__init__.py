"""TRAP²: training-time protection of fine-tuned updates against model merging.

The library behind the workflow.  Its rooms, in the order that data flows through them:

``files`` and ``seeding`` serve everybody; then ``data`` → ``clip`` → ``lora`` →
``objective`` and ``training`` → ``protect`` → ``updates``, ``spaces`` and ``merging`` →
``evaluation``, ``sweep``, ``cells`` and ``pairs`` → ``analysis`` → ``report``.  A room imports
only rooms to its left.
"""
