"""Weights fitted to examples: tiles of inputs, and of what is to be made of them."""
