"""Images to prepared arrays."""
