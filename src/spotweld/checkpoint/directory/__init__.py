"""A directory of any program in any language, saved while the program runs and restored before it is started again."""
