"""SimCLR: its loss from its own embeddings, written out pair by pair."""

import pytest
import torch
from torch import Tensor

from ssl_zoo.method import Batch
from ssl_zoo.methods.simclr import SimCLR
from tests.small import batch, progress, run_info, small_method


def simclr() -> SimCLR:
    torch.manual_seed(0)
    method = small_method("simclr", run=run_info(400))
    assert isinstance(method, SimCLR)
    return method


def reference_loss(method: SimCLR, views: list[Tensor]) -> float:
    """NT-Xent in float64, one anchor and one positive at a time."""
    n_global, n_images = views[0].shape[:2]
    with torch.no_grad():
        features = torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
        z = torch.nn.functional.normalize(method.head(features).double(), dim=1)
    z = z.unflatten(0, (-1, n_images))  # type: ignore[no-untyped-call]
    terms = []
    for view in range(len(z)):
        for image in range(n_images):
            others = [j for j in range(n_images) if j != image]
            negatives = (z[:n_global, others] @ z[view, image]).flatten()
            for other in range(n_global):
                if other == view:
                    continue
                positive = z[other, image] @ z[view, image]
                logits = torch.cat([positive.view(1), negatives]) / method.config.temperature
                terms.append(logits.logsumexp(0) - logits[0])
    return float(torch.stack(terms).mean())


@pytest.mark.parametrize("counts", [((32, 2),), ((32, 2), (16, 3)), ((32, 4),)])
def test_loss_equals_a_slow_reference(counts: tuple[tuple[int, int], ...]) -> None:
    method = simclr()
    views = batch(counts=counts).views
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    assert float(loss) == pytest.approx(reference_loss(method, views), abs=1e-5)


def test_head_statistics_cover_crops_of_all_sizes() -> None:
    method = simclr()
    seen = []
    method.head.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    method(batch(), progress())
    assert seen == [2 * 8 + 2 * 8]
