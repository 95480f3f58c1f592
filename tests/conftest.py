"""One thread for tests: tensors are tiny, and threads that wait for each other cost more than they give."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes inherit it
