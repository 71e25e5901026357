"""`python -m edge_deit` is `edge-deit`."""

from edge_deit.cli import main

main()
