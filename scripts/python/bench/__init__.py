"""The performance figures (scripts/bench), and the PyTorch side of every comparison."""
