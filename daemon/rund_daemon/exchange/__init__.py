"""Coming and going: runs of other tools become runs of rund, and runs of rund files of other tools.

A client of the daemon, like the command line. One module a format: a reader gives `ForeignRun`s, and `importer` writes
them; a writer of `exporter` gets the rows of a run.
"""
