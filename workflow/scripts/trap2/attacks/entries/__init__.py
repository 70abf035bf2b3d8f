"""The attacks' entries, by group; light, as every catalogue."""
