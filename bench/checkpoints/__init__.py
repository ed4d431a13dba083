"""The parts of ``bench/checkpoint.py``: what is saved, who saves it, how it is measured, and how it is told."""
