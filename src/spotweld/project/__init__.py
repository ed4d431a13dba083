"""The project file, as frozen nouns."""
