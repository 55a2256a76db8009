"""Maps of vectors: fits UMAP and PaCMAP, keeps what was fitted as data, and maps further vectors with it.

Pure: vectors in, maps out. Knows no run, table or catalog. The heavy libraries are imported by the modules of the
methods alone, and those only in a process that was started for one job.
"""
