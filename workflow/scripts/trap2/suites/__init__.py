"""What is configured, checked, applicable and released."""
