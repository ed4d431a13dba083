"""The engine for programs whose training loop belongs to a framework, or whose state is no PyTorch module."""
