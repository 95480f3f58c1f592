"""SwAV: codes, freezing, the queue, and its settings against the data."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.heads.top import Top
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.methods.swav import SwAV
from ssl_zoo.methods.swav.method import code_metrics
from ssl_zoo.runs.config import run_config
from tests.small import batch, fast_config, progress, run_info, small_method, tiny_backbone


def swav(*overrides: str, batch_size: int = 8, n_samples: int = 1000) -> SwAV:
    torch.manual_seed(0)
    config = fast_config("swav", f"global_batch_size={batch_size}", *overrides).method
    run = run_info(batch_size)
    run = type(run)(**{**run.__dict__, "n_samples": n_samples})
    method = METHODS.build(config, backbone=tiny_backbone(), run=run)
    assert isinstance(method, SwAV)
    return method


def reference_loss(method: SwAV, views: list[Tensor], queue: Tensor | None = None) -> Tensor:
    """The loss of the paper in float64, view by view, from the method's own embeddings."""
    config, n_images = method.config, views[0].shape[1]
    with torch.no_grad():
        features = torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
        z = torch.nn.functional.normalize(method.head(features).double(), dim=1)
        losses = []
        for layer in method.prototypes.sets:
            weight = layer.get_parameter("weight").double()
            first = torch.nn.functional.normalize(z[:, : weight.shape[1]], dim=1)
            scores = (first @ weight.T).unflatten(0, (-1, n_images))
            terms = []
            for i in range(views[0].shape[0]):
                rows = scores[i]
                if queue is not None:
                    kept = queue[i].double()[:, : weight.shape[1]]
                    kept = torch.nn.functional.normalize(kept, dim=1)
                    rows = torch.cat([rows, kept @ weight.T])
                q = (rows / config.epsilon).exp().T
                q /= q.sum()
                for _ in range(config.sinkhorn_iterations):
                    q /= q.sum(1, keepdim=True) * q.shape[0]
                    q /= q.sum(0, keepdim=True) * q.shape[1]
                code = (q * q.shape[1]).T[:n_images]
                for v in range(len(scores)):
                    if v != i:
                        log_p = (scores[v] / config.temperature).log_softmax(1)
                        terms.append(-(code * log_p).sum(1).mean())
            losses.append(torch.stack(terms).mean())
        return torch.stack(losses).mean()


def test_loss_equals_a_slow_reference() -> None:
    method = swav()
    views = batch().views
    loss = method(Batch(views, torch.arange(8)), progress()).loss
    assert float(loss.detach()) == pytest.approx(float(reference_loss(method, views)), abs=1e-5)


def test_several_prototype_sets_average_their_losses() -> None:
    method = swav("method.n_prototypes=[10, 20, 30]")
    views = batch().views
    loss = method(Batch(views, torch.arange(8)), progress()).loss
    assert float(loss.detach()) == pytest.approx(float(reference_loss(method, views)), abs=1e-5)


def test_a_full_queue_joins_the_codes() -> None:
    method = swav("method.queue_length=16", "method.queue_start=0 epochs")
    for step in range(2):
        method(batch(), progress(step))
        method.commit(progress(step))
    queued = method.queue.embeddings(torch.device("cpu"))
    assert queued is not None
    assert queued.shape == (2, 16, 64)
    views = batch().views
    loss = method(Batch(views, torch.arange(8)), progress(2)).loss
    with_queue = float(reference_loss(method, views, queued))
    assert float(loss.detach()) == pytest.approx(with_queue, abs=1e-5)
    assert abs(with_queue - float(reference_loss(method, views))) > 1e-4


NESTED = ("method.n_prototypes=[5, 10, 20]", "method.nested_dims=[8, 16, 64]")


def test_nested_sets_score_the_normalised_first_coordinates_also_in_the_queue() -> None:
    method = swav(*NESTED, "method.queue_length=8", "method.queue_start=0 epochs")
    method(batch(), progress())
    method.commit(progress())
    queued = method.queue.embeddings(torch.device("cpu"))
    views = batch().views
    loss = method(Batch(views, torch.arange(8)), progress(1)).loss
    expected = float(reference_loss(method, views, queued))
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
    assert [weight.shape for weight in method.prototypes.weights] == [(5, 8), (10, 16), (20, 64)]


def test_sets_that_are_nested_in_whole_embeddings_change_nothing() -> None:
    views = batch().views
    plain, nested = (
        swav("method.n_prototypes=[10]"),
        swav("method.n_prototypes=[10]", "method.nested_dims=[64]"),
    )
    one, other = (m(Batch(views, torch.arange(8)), progress()).loss for m in (plain, nested))
    assert torch.equal(one, other)


def test_layers_of_nested_sets_take_features_and_are_exported() -> None:
    method = swav(*NESTED)
    layers, features = method.layers(), torch.randn(4, 16)
    head = method.config.head.model_dump()
    top = Top.of(layers, head=head, input_dim=16)
    assert top is not None
    again = top.layers()
    for name in ("prototypes", "prototypes.1", "prototypes.2"):
        found = layers[name].eval()(features)
        assert torch.equal(again[name](features), found)
        assert found.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("dims", ["[8, 16]", "[16, 8, 64]", "[8, 8, 64]"])
def test_sets_that_are_not_nested_are_refused(dims: str) -> None:
    with pytest.raises(UserError, match="nested_dims of .* are not one growing number for each"):
        run_config("swav", overrides=[NESTED[0], f"method.nested_dims={dims}"])


def test_more_coordinates_than_embeddings_have_are_refused() -> None:
    with pytest.raises(UserError, match="embeddings of length 64; give one number for each set"):
        swav("method.n_prototypes=[5]", "method.nested_dims=[65]")


def test_a_plan_keeps_nested_sets_growing() -> None:
    config = run_config("swav", overrides=NESTED).method
    assert SwAV.fitted(config, run_info(400))["n_prototypes"][0] == [100, 200, 400]
    plain = run_config("swav", overrides=["method.n_prototypes=[5, 10]"]).method
    assert SwAV.fitted(plain, run_info(400))["n_prototypes"][0] == [400, 400]


def test_the_queue_is_not_used_before_it_is_full() -> None:
    method = swav("method.queue_length=16", "method.queue_start=0 epochs")
    method(batch(), progress(0))
    method.commit(progress(0))
    assert method.queue.embeddings(torch.device("cpu")) is None


def test_the_queue_does_not_fill_before_its_start() -> None:
    method = swav("method.queue_length=8", "method.queue_start=1 epoch")
    for step, filled in ((9, False), (10, True)):
        method(batch(), progress(step))
        method.commit(progress(step))
        assert method.queue.is_full is filled


def test_a_batch_never_meets_itself_in_the_queue() -> None:
    method = swav("method.queue_length=8", "method.queue_start=0 epochs")
    method(batch(), progress(0))
    assert not method.queue.is_full
    method.commit(progress(0))
    assert method.queue.is_full


def test_queued_embeddings_are_scored_with_current_prototypes() -> None:
    method = swav("method.queue_length=8", "method.queue_start=0 epochs")
    method(batch(), progress(0))
    method.commit(progress(0))
    queued = method.queue.embeddings(torch.device("cpu"))
    with torch.no_grad():
        for parameter in method.prototypes.parameters():
            parameter.copy_(torch.randn_like(parameter))
    method.before_step(progress(1))
    views = batch().views
    loss = method(Batch(views, torch.arange(8)), progress(1)).loss
    assert float(loss.detach()) == pytest.approx(
        float(reference_loss(method, views, queued)), abs=1e-5
    )


def test_frozen_prototypes_do_not_move_under_momentum_and_weight_decay() -> None:
    method = swav("method.freeze_prototypes=2 steps")
    before = [p.detach().clone() for p in method.prototypes.parameters()]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    moved = []
    for step in range(3):
        optimizer.zero_grad()
        method(batch(), progress(step)).loss.backward()
        method.after_backward(progress(step))
        optimizer.step()
        now = list(method.prototypes.parameters())
        moved.append(not all(torch.equal(a, b) for a, b in zip(before, now, strict=True)))
    assert moved == [False, False, True]


def test_prototypes_have_length_one_before_each_step() -> None:
    method = swav()
    with torch.no_grad():
        for parameter in method.prototypes.parameters():
            parameter.mul_(3)
    method.before_step(progress())
    for parameter in method.prototypes.parameters():
        torch.testing.assert_close(parameter.norm(dim=1), torch.ones(len(parameter)))


def test_prototypes_have_no_bias() -> None:
    assert [name for name, _ in swav().prototypes.named_parameters()] == ["sets.0.weight"]


def test_head_statistics_cover_crops_of_all_sizes() -> None:
    method = swav()
    seen = []
    method.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    method(batch(), progress())
    assert seen == [(2 * 8 + 2 * 8, 16)]


def test_crops_of_one_size_share_a_forward_pass() -> None:
    method = swav()
    seen = []
    method.backbone.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[0])
    )
    method(batch(counts=((32, 2), (16, 3))), progress())
    assert seen == [16, 24]


def test_local_crops_make_no_codes() -> None:
    method = swav()
    asked = []
    codes = method.loss.codes
    method.loss.codes = lambda s, n, q=None: asked.append(n) or codes(s, n, q)  # type: ignore[func-returns-value]
    method(batch(counts=((32, 2), (16, 6))), progress())
    assert asked == [2]


def test_collapsed_features_show_in_the_metrics() -> None:
    n_prototypes = 20
    uniform = torch.full((2, 8, n_prototypes), 1 / n_prototypes)
    metrics = code_metrics([torch.tensor(math.log(n_prototypes))], [uniform])
    assert metrics["loss_over_ln_k"] == pytest.approx(1)
    assert metrics["code_entropy"] == pytest.approx(1)
    assert metrics["active_prototypes"] == pytest.approx(1 / 16)


def test_a_queue_above_a_quarter_of_the_images_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 16 is above a quarter of the 60"):
        swav("method.queue_length=16", "method.n_prototypes=[10]", n_samples=60)


def test_more_prototypes_than_images_are_refused() -> None:
    with pytest.raises(UserError, match="n_prototypes of 61 is above the 60"):
        swav("method.n_prototypes=[61]", n_samples=60)


def test_queue_scores_are_full_precision_under_autocast() -> None:
    method = swav("method.queue_length=8", "method.queue_start=0 epochs")
    method(batch(), progress(0))
    method.commit(progress(0))
    seen: list[torch.dtype] = []
    codes = method.loss.codes

    def spy(scores: Tensor, n_global: int, queue_scores: Tensor) -> Tensor:
        seen.append(queue_scores.dtype)
        result: Tensor = codes(scores, n_global, queue_scores)
        return result

    method.loss.codes = spy
    with torch.autocast("cpu", torch.bfloat16):
        method(batch(), progress(1))
    assert seen == [torch.float32]


def test_one_rank_takes_up_the_queue_of_two() -> None:
    settings = (
        "method.queue_length=64",
        "method.queue_start=0 epochs",
        "method.n_prototypes=[10]",
    )
    on = [run_info(32, rank=rank, world_size=2) for rank in range(2)]
    ranks = [small_method("swav", *settings, run=run) for run in on]
    for method in ranks:
        method(batch(16), progress(0))
        method.commit(progress(0))
    alone = small_method("swav", *settings, run=run_info(32))
    alone.load_rank_state([method.rank_state() for method in ranks])
    parts = [method.rank_state()["queue.rows"][:, :16] for method in ranks]
    together = torch.stack(parts, dim=2).flatten(1, 2)  # the same place on each rank side by side
    state = alone.rank_state()
    assert torch.equal(state["queue.rows"][:, :32], together)
    assert int(state["queue.position"]) == int(state["queue.filled"]) == 32
