"""The client of rund."""
