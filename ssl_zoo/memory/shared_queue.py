"""A queue of embeddings that is equal on all ranks, such as MoCo's negatives."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.memory.age import age_share
from ssl_zoo.method import Memory
from ssl_zoo.schedule import Progress

UNKNOWN = -1
"""Image of a row that is random, or that was pushed without one."""


class SharedQueue(Memory):
    """The newest embeddings of all ranks, equal on each; initialised with random unit vectors.

    As in MoCo (He et al., 2020, arXiv:1911.05722; facebookresearch/moco, moco/builder.py) the queue is
    used from the first step on. Checkpoints store it once, not per rank.

    Args:
        length: number of embeddings; a multiple of the global batch size.
        dim: dimension of an embedding.
    """

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self._rows = functional.normalize(torch.randn(length, dim), dim=1)
        self._position = 0
        self._filled = 0  # rows that are no longer random
        self._images = torch.full((length,), UNKNOWN)
        # Embeddings (B, d) and their images (B,) since the last step.
        self._pending: list[tuple[Tensor, Tensor | None]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def embeddings(self, like: Tensor) -> Tensor:
        """Returns all rows `(length, d)`, with the device and type of another tensor."""
        self._rows = self._rows.to(like)
        return self._rows

    @torch.no_grad()
    def nearest(self, embeddings: Tensor, index: Tensor | None = None) -> Tensor:
        """Returns the position of the row with the largest cosine to each embedding, `(N,)`.

        Args:
            embeddings: `(N, d)`.
            index: position of each embedding's image in the data set, `(N,)`, whose own rows do not
                count, unless the queue has no others.
        """
        rows = self.embeddings(embeddings)
        with torch.autocast(rows.device.type, enabled=False):
            similarity = embeddings @ rows.T  # (N, length)
        if index is not None:
            self._images = self._images.to(index.device)
            own = index[:, None] == self._images
            similarity = similarity.masked_fill(own, -math.inf)
        return similarity.argmax(dim=1)

    def keep(self, embeddings: Tensor, index: Tensor | None = None) -> None:
        """Keeps the embeddings of a forward pass in training until `commit`, `(B, d)`.

        Args:
            index: position of their images in the data set, `(B,)`, for `nearest`; given always or never.
        """
        if self.training:
            self._pending.append((embeddings.detach(), index))

    def commit(self, progress: Progress) -> None:
        """Pushes the embeddings kept in this step, on all ranks."""
        if self._pending:
            index = [images for _, images in self._pending if images is not None]
            rows = torch.cat([embeddings for embeddings, _ in self._pending])
            self.push(rows, torch.cat(index) if index else None)
            self._pending.clear()

    @torch.no_grad()
    def push(self, embeddings: Tensor, index: Tensor | None = None) -> None:
        """Overwrites the oldest rows with those of all ranks' batches, `(B, d)` on each.

        Args:
            index: see `keep`.

        Raises:
            ValueError: the global batch does not divide the length.
        """
        gathered = distributed.gather(embeddings.detach().contiguous())
        if len(self) % len(gathered):
            raise ValueError(f"a queue of {len(self)} rows cannot take batches of {len(gathered)}")
        self._rows = self._rows.to(gathered).clone()  # a backward pass may still need the old rows
        places = slice(self._position, self._position + len(gathered))
        self._rows[places] = gathered
        if index is None:
            self._images[places] = UNKNOWN
        else:
            self._images = self._images.to(index.device)
            self._images[places] = distributed.gather(index)
        self._position = (self._position + len(gathered)) % len(self)
        self._filled = min(self._filled + len(gathered), len(self))

    def age_share(self) -> float | None:
        """Returns the share of the variance that age explains; None while rows are random."""
        if self._filled < len(self):
            return None
        return age_share(self._rows.roll(-self._position, dims=0))

    def state(self) -> dict[str, Tensor]:
        """Returns the state for `load` on rank 0; empty on other ranks."""
        if not distributed.is_main():
            return {}
        return {
            "rows": self._rows.cpu(),
            "position": torch.tensor(self._position),
            "filled": torch.tensor(self._filled),
            "images": self._images.cpu(),
        }

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Takes the queue from the states of all ranks that saved it, for any number of ranks.

        Raises:
            UserError: the saved queue has another length or other embeddings.
        """
        if not states or not states[0]:
            return
        rows = states[0]["rows"]
        if rows.shape != self._rows.shape:
            raise UserError(
                f"the checkpoint's queue holds {len(rows)} embeddings of dimension {rows.shape[1]}, this "
                f"run's {len(self)} of {self._rows.shape[1]}"
            )
        self._rows = rows.clone()
        self._position = int(states[0]["position"])
        # Earlier versions did not save these.
        self._filled = int(states[0].get("filled", len(rows)))
        self._images = states[0].get("images", torch.full((len(rows),), UNKNOWN)).clone()
