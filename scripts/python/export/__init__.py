"""Trained weights, or anyone's own PyTorch network, to a TorchScript file."""
