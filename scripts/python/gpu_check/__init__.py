"""scripts/gpu-check: packs a program for GPU machines without a network, runs it there, and says what differs.

`pack` and `models` work where the repository is; all other modules go into the packed folder and need nothing but
Python itself, and next to it the package torch, whose libraries the program runs on.
"""
