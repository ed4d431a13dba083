"""Build steps by content: their keys, what the keys are made of, why a step has to be run."""
