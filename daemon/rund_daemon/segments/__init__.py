"""Segments: the files of a root. The only room that knows how rows lie on disk."""
