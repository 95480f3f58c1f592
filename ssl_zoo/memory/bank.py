"""A bank of the embeddings of one epoch, which methods cluster between epochs.

Caron et al., 2020 (arXiv:2006.09882), appendix on DeepCluster-v2; facebookresearch/swav,
main_deepclusterv2.py: the embeddings are those computed in training.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch, Memory, RunInfo
from ssl_zoo.schedule import Progress

_EMPTY = -1


class EmbeddingBank(Memory):
    """This rank's embeddings of an epoch, one row per image, in the order of the steps.

    A row belongs to a position in the epoch: step, then image within the step's batch. Each epoch
    overwrites the previous one. As ranks hold consecutive parts of each global batch, the rows of all
    ranks form one list whose order does not depend on the number of ranks.

    Args:
        run: sizes of the run.
    """

    by_rank: ClassVar[bool] = True

    def __init__(self, run: RunInfo) -> None:
        super().__init__()
        self._run = run
        self._index = torch.full((run.steps_per_epoch * run.batch_size,), _EMPTY)
        self._rows: Tensor | None = None  # (V_g, n, d)
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._seed = int(torch.randint(2**31, (), device="cpu"))  # built with the run's seed

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written yet."""
        return self._rows is None

    @property
    def n_views(self) -> int:
        """Number of global views."""
        return 0 if self._rows is None else len(self._rows)

    @property
    def index(self) -> Tensor:
        """Positions in the data set of the images in the bank, `(n,)`."""
        return self._index[self._index != _EMPTY]

    def embeddings(self, view: int) -> Tensor:
        """Returns the written rows of a global view, `(n, d)`, in the order of `index`."""
        assert self._rows is not None, "the bank is empty"
        filled = self._index != _EMPTY
        return self._rows[view] if bool(filled.all()) else self._rows[view, filled]

    def move(self, device: torch.device) -> None:
        """Moves the rows to a device; after loading a checkpoint they are on the CPU."""
        self._index = self._index.to(device)
        if self._rows is not None:
            self._rows = self._rows.to(device)

    def generator(self, *salt: int) -> torch.Generator:
        """Returns a generator that is equal on all ranks, derived from the seed and the given
        numbers."""
        state = self._seed
        for number in salt:
            state = (1_000_003 * state + number) % 2**61
        return torch.Generator().manual_seed(state)

    def sample(self, view: int, n: int, generator: torch.Generator) -> Tensor:
        """Returns random rows of all ranks, `(n, d)`, equal on each rank and for any number of ranks.

        Rows are drawn without replacement if there are enough.
        """
        assert self._rows is not None, "the bank is empty"
        run, rows = self._run, self._rows[view]
        place = torch.arange(len(self._index), device=rows.device)
        place = place // run.batch_size * run.global_batch_size + place % run.batch_size
        place += run.rank * run.batch_size  # position in the list of all ranks
        filled = torch.zeros(
            run.steps_per_epoch * run.global_batch_size, dtype=torch.int32, device=rows.device
        )
        filled[place] = (self._index != _EMPTY).to(torch.int32)
        places = distributed.all_reduce(filled, "max").nonzero()[:, 0].cpu()
        order = torch.randperm(len(places), generator=generator)
        wanted = places[order[torch.arange(n) % len(order)]].to(rows.device)

        own = wanted % run.global_batch_size // run.batch_size == run.rank
        row = wanted // run.global_batch_size * run.batch_size + wanted % run.batch_size
        found = torch.where(own[:, None], rows[row.clamp(max=len(rows) - 1)], 0)
        return distributed.all_reduce(found)

    def keep(self, index: Tensor, embeddings: Tensor) -> None:
        """Keeps the results of a forward pass in training until `commit`, `(B,)` and `(V_g, B, d)`."""
        if self.training:
            self._pending.append((index, embeddings.detach()))

    def commit(self, progress: Progress) -> None:
        """Writes the embeddings kept in this step, at the position of the step in the epoch."""
        if self._pending:
            indices, embeddings = zip(*self._pending, strict=True)
            self._pending.clear()
            step = progress.step % progress.steps_per_epoch
            self.write(step, torch.cat(indices), torch.cat(embeddings, dim=1))

    @torch.no_grad()
    def fill(self, batches: Iterable[Batch], embed: Callable[[Batch], Tensor]) -> None:
        """Writes the embeddings `(V_g, B, d)` of all batches of an epoch."""
        for step, batch in enumerate(batches):
            self.write(step, batch.index, embed(batch))

    @torch.no_grad()
    def fill_with_features(self, backbone: nn.Module, images: Iterable[Batch]) -> None:
        """Writes features of untransformed images in eval mode, so that each is independent of its
        batch."""
        modes = {module: module.training for module in backbone.modules()}
        backbone.eval()
        try:
            self.fill(images, lambda batch: backbone(batch.views[0].flatten(0, 1))[None])
        finally:
            for module, training in modes.items():
                module.training = training

    def write(self, step: int, index: Tensor, embeddings: Tensor) -> None:
        """Writes the rows of a step, `(B,)` and `(V_g, B, d)`.

        Raises:
            ValueError: there are more images than the batch size of this rank.
        """
        n_views, n_images, dim = embeddings.shape
        if n_images > self._run.batch_size:
            raise ValueError(
                f"a bank with {self._run.batch_size} rows per step cannot take {n_images} images"
            )
        if self._rows is None:
            self._rows = embeddings.new_zeros(n_views, len(self._index), dim)
        self._rows = self._rows.to(embeddings.device)
        self._index = self._index.to(embeddings.device)
        start = step * self._run.batch_size
        self._rows[:, start : start + n_images] = embeddings
        self._index[start : start + self._run.batch_size] = _EMPTY
        self._index[start : start + n_images] = index

    def transform(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replaces the rows of each view by a function of the written rows `(n, d)`."""
        assert self._rows is not None, "the bank is empty"
        filled = self._index != _EMPTY
        views = [function(rows[filled]) for rows in self._rows]
        self._rows = views[0].new_zeros(len(views), len(filled), views[0].shape[1])
        self._rows[:, filled] = torch.stack(views)

    def clear(self) -> None:
        """Deletes all rows."""
        self._rows = None
        self._index.fill_(_EMPTY)

    def state(self) -> dict[str, Tensor]:
        """Returns the state for `load`; empty while the bank is empty."""
        if self._rows is None:
            return {}
        return {
            "rows": self._rows.cpu(),
            "index": self._index.cpu(),
            "sizes": torch.tensor(self._sizes()),
        }

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Takes this rank's rows from the states of all ranks that saved the bank, for any number of
        ranks.

        Raises:
            UserError: the saved bank has other data or batches.
        """
        if not states or not states[0]:
            return
        sizes = states[0]["sizes"].tolist()
        if sizes != self._sizes():
            there, now = (
                "{} images in {} batches of {}".format(*one) for one in (sizes, self._sizes())
            )
            raise UserError(
                f"the checkpoint's bank holds the embeddings of {there}, this run has {now}; resume "
                "with the data and the global_batch_size it was saved with, or start a new run"
            )
        self._rows = self._share([state["rows"] for state in states], dim=1)
        self._index = self._share([state["index"] for state in states], dim=0)

    def _sizes(self) -> list[int]:
        return [self._run.n_samples, self._run.steps_per_epoch, self._run.global_batch_size]

    def _share(self, parts: list[Tensor], *, dim: int) -> Tensor:
        """Returns this rank's rows of all ranks' `(..., S * b, ...)`."""
        run = self._run
        if len(parts) == run.world_size:
            return parts[run.rank].clone()
        shape = parts[0].shape
        split = (*shape[:dim], run.steps_per_epoch, -1, *shape[dim + 1 :])
        steps = [part.reshape(split) for part in parts]
        whole = torch.cat(steps, dim=dim + 1)  # (..., S, B, ...): batches of all ranks
        own = whole.narrow(dim + 1, run.rank * run.batch_size, run.batch_size)
        return own.flatten(dim, dim + 1).contiguous()
