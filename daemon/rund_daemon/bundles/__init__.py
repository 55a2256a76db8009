"""Runs outside the root: bundles, which need no daemon, in folders and object stores.

A bundle is one committed state of a run with all of its files, sealed. See docs/storage.md for its format.
"""
