"""MoCo v2: its loss from its own embeddings, the teacher, and the queue."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch
from ssl_zoo.methods.moco_v2 import MoCoV2
from ssl_zoo.runs.config import run_config
from tests.small import COUNTS, batch, progress, run_info, small_method

WITHOUT_LOCAL = ((32, 2),)
SEVERAL = ((32, 3), (16, 2))


def moco(*overrides: str, batch_size: int = 8) -> MoCoV2:
    torch.manual_seed(0)
    sizes = ("global_batch_size=8", "method.queue_length=16")
    method = small_method("moco_v2", *sizes, *overrides, run=run_info(batch_size))
    assert isinstance(method, MoCoV2)
    return method


def asymmetric(*overrides: str) -> MoCoV2:
    return moco("method.symmetric=false", *overrides)


def unrelated_teacher(method: MoCoV2) -> MoCoV2:
    """Gives the teacher weights of its own, so that mistaking it for the student shows."""
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def reference(method: MoCoV2, views: list[Tensor], *, symmetric: bool) -> Tensor:
    """MoCo's equation 1 in float64, one query and one key at a time."""
    n_global, n_images = views[0].shape[:2]
    key_views = range(n_global) if symmetric else [n_global - 1]
    asking = [v for v in range(n_global) if symmetric or v not in key_views]
    groups = [views[0][asking], *views[1:]]
    numbers = [*asking, *range(n_global, sum(map(len, views)))]
    negatives = method.queue.embeddings(torch.zeros(1)).double()
    with torch.no_grad():
        q = torch.cat([method.backbone(group.flatten(0, 1)) for group in groups])
        q = normalize(method.head(q).double(), dim=1).view(len(numbers), n_images, -1)
        keyed = views[0][list(key_views)].flatten(0, 1)
        k = normalize(method.teacher.head(method.teacher.backbone(keyed)).double(), dim=1)
        k = k.view(len(key_views), n_images, -1)
    terms = []
    for query, v in zip(q, numbers, strict=True):
        for key, g in zip(k, key_views, strict=True):
            if v == g:
                continue
            for b in range(n_images):
                positive = (query[b] @ key[b] / method.config.temperature).exp()
                negative = (negatives @ query[b] / method.config.temperature).exp().sum()
                terms.append(-(positive / (positive + negative)).log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("counts", [WITHOUT_LOCAL, COUNTS, SEVERAL])
@pytest.mark.parametrize("symmetric", [False, True])
def test_loss_equals_a_slow_reference(
    symmetric: bool, counts: tuple[tuple[int, int], ...]
) -> None:
    method = unrelated_teacher(moco(f"method.symmetric={symmetric}"))
    views = batch(counts=counts).views
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    expected = float(reference(method, views, symmetric=symmetric))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_the_key_view_is_no_query_where_only_one_view_has_keys() -> None:
    method, seen = asymmetric(), []
    method.backbone.register_forward_hook(lambda m, inputs, o: seen.append(len(inputs[0])))
    method(batch(counts=SEVERAL), progress())
    assert seen == [2 * 8, 2 * 8]


@pytest.mark.parametrize(("symmetric", "n_keys"), [(False, 1), (True, 3)])
def test_local_crops_have_no_keys(symmetric: bool, n_keys: int) -> None:
    method, seen = moco(f"method.symmetric={symmetric}"), []
    method.teacher.backbone.register_forward_hook(
        lambda m, inputs, o: seen.append(inputs[0].shape)
    )
    method(batch(counts=SEVERAL), progress())
    assert seen == [(n_keys * 8, 3, 32, 32)]


@pytest.mark.parametrize("symmetric", [False, True])
def test_features_are_those_of_the_global_queries(symmetric: bool) -> None:
    method = moco(f"method.symmetric={symmetric}")
    output = method(batch(counts=SEVERAL), progress())
    assert output.features.shape == ((3 if symmetric else 2) * 8, 16)


def test_a_batch_meets_itself_in_the_queue_only_after_its_step() -> None:
    method = moco()
    before = method.queue.embeddings(torch.zeros(1)).clone()
    method(batch(), progress())
    assert torch.equal(method.queue.embeddings(torch.zeros(1)), before)
    method.commit(progress())
    now = method.queue.embeddings(torch.zeros(1))
    assert torch.equal(now[8:], before[8:])
    assert not torch.isclose(now[:8], before[:8]).all(dim=1).any()


def test_the_queue_takes_the_teachers_keys_of_the_last_global_view() -> None:
    method = unrelated_teacher(asymmetric())
    views = batch(counts=SEVERAL).views
    with torch.no_grad():
        keys = method.teacher.head(method.teacher.backbone(views[0][-1]))
    method(Batch(views, torch.arange(8)), progress())
    method.commit(progress())
    rows = method.queue.embeddings(keys)[:8]
    torch.testing.assert_close(rows, normalize(keys, dim=1), rtol=1e-5, atol=1e-6)


def test_queued_keys_have_no_gradient() -> None:
    method = moco()
    method(batch(), progress())
    method.commit(progress())
    assert not method.queue.embeddings(torch.zeros(1)).requires_grad


def test_accumulated_batches_are_queued_together() -> None:
    method = moco(batch_size=16)
    before = method.queue.embeddings(torch.zeros(1)).clone()
    for _ in range(2):
        method(batch(), progress())
    method.commit(progress())
    now = method.queue.embeddings(torch.zeros(1))
    assert not torch.isclose(now, before).all(dim=1).any()


def test_evaluation_queues_nothing() -> None:
    method = moco().eval()
    before = method.queue.embeddings(torch.zeros(1)).clone()
    method(batch(), progress())
    method.commit(progress())
    assert torch.equal(method.queue.embeddings(torch.zeros(1)), before)


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.5), (50, 0.75)])
def test_the_teacher_follows_with_the_momentum_of_the_step(step: int, momentum: float) -> None:
    method = moco("method.momentum={start: 0.5, end: 1}")
    weight = method.teacher.head.layers[0].weight
    before = weight.clone()
    with torch.no_grad():
        method.head.layers[0].weight.add_(1)
    method.after_step(progress(step))
    torch.testing.assert_close(weight, before + 1 - momentum)


def test_no_gradient_reaches_the_teacher() -> None:
    method = moco()
    method(batch(), progress()).loss.backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(parameter.grad is not None for parameter in method.head.parameters())


def test_the_queue_survives_a_checkpoint() -> None:
    method, other = moco(), moco()
    method(batch(), progress())
    method.commit(progress())
    other.load_rank_state([method.rank_state(), {}])
    for each in (method, other):
        each.queue.push(torch.zeros(8, 64))
    rows = [each.queue.embeddings(torch.zeros(1)) for each in (method, other)]
    assert torch.equal(*rows)


def test_equal_embeddings_are_at_chance() -> None:
    method = moco("method.head={name: mlp, hidden_dims: [], output_dim: 64}")
    with torch.no_grad():
        for layer in (method.head.layers[-1], method.teacher.head.layers[-1]):
            layer.weight.zero_()
            layer.bias.fill_(1)
    method.queue.push(torch.ones(16, 64) / 8)
    metrics = method(batch(), progress()).metrics()
    assert metrics == pytest.approx({"loss_over_chance": 1, "positive_cosine": 1}, rel=1e-5)


def test_defaults_are_those_of_the_paper() -> None:
    config = MoCoV2.Config()
    assert (config.temperature, config.queue_length, config.symmetric) == (0.2, 65536, False)
    assert config.momentum.start == config.momentum.end == 0.999


def test_the_head_is_that_of_the_paper() -> None:
    head = run_config("moco_v2@imagenet-200ep").method.head  # type: ignore[attr-defined]
    assert head == MoCoV2.Config().head
    assert (head.hidden_dims, head.output_dim, head.batch_norm) == ([2048], 128, False)


def test_a_queue_of_parts_of_batches_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 100 .* use 64 or 128"):
        run_config("moco_v2", overrides=["method.queue_length=100"])


def test_a_queue_longer_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 88 is above the 80 training images"):
        moco("method.queue_length=88")


def test_a_momentum_above_one_is_refused() -> None:
    with pytest.raises(UserError, match="must be between 0 and 1"):
        moco("method.momentum=1.1")
