"""The tables: rows, statistics and forms."""
