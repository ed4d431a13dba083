"""Container images: what they are made of, where they are kept, and whether they need to be built."""
