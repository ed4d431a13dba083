"""Bytes that survive: objects under one URL, blobs named by their digest, and the one head of each run."""
