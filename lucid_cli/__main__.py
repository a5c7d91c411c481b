"""`python -m lucid_cli` is `lucid-conv3d`."""

from lucid_cli.main import main

main()
