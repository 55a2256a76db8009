"""Reduces embeddings: chooses tables, has a process of its own fit and map, and puts the new tables in place.

Nothing of a run changes until the last step, one transaction. What is made until then lies in a folder that the next
start removes.
"""
