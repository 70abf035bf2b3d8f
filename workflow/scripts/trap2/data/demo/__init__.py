"""The demo's tasks, which it paints itself."""
