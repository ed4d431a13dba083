"""The engine inside the training process."""
