"""Pictures of runs: maps of embeddings as a PNG and as a page for a browser.

What makes the picture is imported when one is made: `import rund` needs none of it. This room reads through ``Table``
alone, and knows neither the daemon nor the run.
"""

from .plot import EmbeddingPlot, plot_embedding

__all__ = ["EmbeddingPlot", "plot_embedding"]
