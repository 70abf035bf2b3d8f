"""``python -m trap2``, the command line where the package is not installed."""

from trap2.cli.main import main

main(prog_name="trap2")
