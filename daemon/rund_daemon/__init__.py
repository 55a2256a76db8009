"""The daemon of rund."""
