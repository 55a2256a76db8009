"""Ingest: write streams, sequences, group commit and sealing."""
