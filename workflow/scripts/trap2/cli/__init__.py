"""The commands of ``trap2``: single steps of the workflow on anybody's own files.

Each reads its options and calls what the workflow's rule of the same step calls.  The library is
imported when a command runs, so that ``trap2 --help`` answers at once.
"""
