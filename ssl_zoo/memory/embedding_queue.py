"""A queue of embeddings for codes of small batches (section 5.3 of arXiv:2006.09882)."""

from typing import ClassVar

import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.memory.age import age_share
from ssl_zoo.method import Memory, RunInfo
from ssl_zoo.schedule import Progress


class EmbeddingQueue(Memory):
    """This rank's share of the newest embeddings of all ranks, separately for each global view.

    Args:
        length: number of embeddings per view on all ranks together; 0 for a queue that stays empty.
        dim: dimension of an embedding.
        run: sizes of the run.
    """

    by_rank: ClassVar[bool] = True

    def __init__(self, length: int, dim: int, *, run: RunInfo) -> None:
        super().__init__()
        self.length = length // run.world_size
        self.dim = dim
        self._run = run
        self._pending: list[Tensor] = []  # embeddings (V_g, B, d) since the last step
        self._rows: Tensor | None = None  # (V_g, length, d), a ring
        self._position = 0
        self._filled = 0

    @property
    def is_full(self) -> bool:
        """Whether every row holds an embedding; the queue is used only when full."""
        return self.length > 0 and self._filled >= self.length

    def embeddings(self, device: torch.device) -> Tensor | None:
        """Returns all rows `(V_g, length, d)`; None while the queue is not full."""
        if not self.is_full or self._rows is None:
            return None
        self._rows = self._rows.to(device)
        return self._rows

    def keep(self, embeddings: Tensor) -> None:
        """Keeps the embeddings of a forward pass in training until `commit`, `(V_g, B, d)`."""
        if self.training and self.length:
            self._pending.append(embeddings.detach())

    def commit(self, progress: Progress) -> None:
        """Pushes the embeddings kept in this step."""
        if self._pending:
            self.push(torch.cat(self._pending, dim=1))
            self._pending.clear()

    def push(self, embeddings: Tensor) -> None:
        """Overwrites the oldest rows with those of a batch, `(V_g, B, d)`; B must divide the length."""
        n_views, n_new, dim = embeddings.shape
        if self.length % n_new:
            raise ValueError(f"a queue of {self.length} rows cannot take batches of {n_new}")
        if self._rows is None:
            self._rows = embeddings.new_zeros(n_views, self.length, dim)
        self._rows[:, self._position : self._position + n_new] = embeddings
        self._position = (self._position + n_new) % self.length
        self._filled = min(self._filled + n_new, self.length)

    def age_share(self) -> float | None:
        """Returns the share of the variance that age explains, of the first view; None until full."""
        if not self.is_full or self._rows is None:
            return None
        return age_share(self._rows[0].roll(-self._position, dims=0))

    def state(self) -> dict[str, Tensor]:
        """Returns the state for `load`; empty before the first batch."""
        if self._rows is None:
            return {}
        return {
            "rows": self._rows.cpu(),
            "position": torch.tensor(self._position),
            "filled": torch.tensor(self._filled),
        }

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Takes this rank's share of the states of all ranks that saved it.

        A step fills the same rows on every rank, so rows `i` of all ranks come from the same global
        batch. With another number of ranks, the global queue is redistributed.

        Raises:
            UserError: the saved queue has another length.
        """
        if not states or not states[0]:
            return
        old_world, world_size, rank = len(states), self._run.world_size, self._run.rank
        total = states[0]["rows"].shape[1] * old_world
        if total != self.length * world_size:
            raise UserError(
                f"the checkpoint's queue holds {total} embeddings, this run's {self.length * world_size}"
            )
        # Position and fill level count rows of one rank; in global rows they do not depend on world size.
        position = int(states[0]["position"]) * old_world // world_size
        filled = int(states[0]["filled"]) * old_world // world_size
        if old_world == world_size:
            rows = states[rank]["rows"]
        else:
            # Codes depend on which rows are queued, not on which rank holds them, so any distribution of
            # whole time slices is correct: rank blocks are interleaved row by row, then split.
            merged = torch.stack([state["rows"] for state in states], dim=2)  # (V, L, W, d)
            merged = merged.flatten(1, 2)  # oldest rows of all ranks stay together
            slices = merged.reshape(len(merged), -1, world_size, self.dim)  # (V, L', W', d)
            rows = slices[:, :, rank]
        self._rows = rows.clone().contiguous()
        self._position, self._filled = position, filled
