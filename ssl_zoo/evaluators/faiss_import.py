"""The only module that imports faiss.

Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", 2017 (arXiv:1702.08734).
"""

from typing import Any


def faiss() -> Any:
    """Returns the library, in one OpenMP runtime with torch."""
    import torch  # noqa: F401  first, so that faiss joins torch's OpenMP runtime

    import faiss  # isort: skip

    return faiss
