"""LeJEPA: SIGReg against the closed form of its integral, its sums written out, and on two ranks."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.method import Batch
from ssl_zoo.methods.lejepa import LeJEPA, random_directions, sigreg
from tests.distributed import run_on_ranks
from tests.small import batch, progress, small_method


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_embeddings(v: int = 2, b: int = 7, d: int = 3) -> Tensor:
    scale = torch.linspace(0.3, 2.0, d)
    found: Tensor = (scale * torch.randn(v, b, d, generator=seeded()) + 0.5).double()
    return found


def some_directions(d: int = 3, m: int = 5) -> Tensor:
    directions: Tensor = random_directions(d, m, generator=seeded(1)).double()
    return directions


def closed_form(values: Tensor) -> Tensor:
    """The integral over the whole line for values `(N,)`, by expectations of Gaussians."""
    pairs = (-((values[:, None] - values[None]) ** 2) / 2).exp().mean()
    single = (-(values**2) / 4).exp().mean()
    whole = math.sqrt(2 * math.pi) * pairs - 2 * math.sqrt(math.pi) * single
    return len(values) * (whole + math.sqrt(2 * math.pi / 3))


def mean_closed_form(embeddings: Tensor, directions: Tensor) -> Tensor:
    values = [closed_form(view @ a) for view in embeddings for a in directions.T]
    return torch.stack(values).mean()


def test_it_is_the_closed_form_if_the_integral_is_long() -> None:
    z, a = some_embeddings().requires_grad_(), some_directions()
    loss, expected = sigreg(z, a, knots=17, limit=5.0), mean_closed_form(z, a)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    (gradient,), (wanted,) = (torch.autograd.grad(x, z) for x in (loss, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


def test_with_the_defaults_it_is_nearly_the_closed_form() -> None:
    z, a = some_embeddings(), some_directions()
    torch.testing.assert_close(sigreg(z, a), mean_closed_form(z, a), rtol=0.01, atol=0)


def test_it_is_the_trapezoidal_rule_over_both_halves() -> None:
    z, a = some_embeddings(), some_directions()
    t = torch.linspace(-3, 3, 33).double()
    terms = []
    for view in z:
        for direction in a.T:
            f = (1j * t * (view @ direction)[:, None]).exp().mean(dim=0)
            squares = (f - (-(t**2) / 2).exp()).abs() ** 2 * (-(t**2) / 2).exp()
            terms.append(len(view) * torch.trapezoid(squares, t))
    torch.testing.assert_close(sigreg(z, a), torch.stack(terms).mean())


def test_gradcheck() -> None:
    z = some_embeddings(2, 4).requires_grad_()
    a = some_directions(m=2)
    assert torch.autograd.gradcheck(lambda x: sigreg(x, a, knots=5), z)


@pytest.mark.parametrize("n_images", [20, 200])
def test_normal_embeddings_of_any_number_have_the_expected_statistic(n_images: int) -> None:
    z = torch.randn(100, n_images, 8, generator=seeded()).double()
    found = float(sigreg(z, torch.eye(8).double(), limit=5.0))
    expected = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)
    assert found == pytest.approx(expected, rel=0.15)


def test_the_statistic_of_equal_embeddings_grows_with_their_number() -> None:
    one, many = torch.zeros(1, 5, 3).double(), torch.zeros(1, 10, 3).double()
    a = some_directions()
    torch.testing.assert_close(2 * sigreg(one, a), sigreg(many, a))


def test_directions_are_unit_and_change_with_the_seed() -> None:
    one, other = (random_directions(6, 9, generator=seeded(n)) for n in (3, 4))
    torch.testing.assert_close(one.norm(dim=0), torch.ones(9))
    assert not torch.isclose(one, other).any()


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    z, a = some_embeddings().bfloat16(), some_directions().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sigreg(z, a)
    torch.testing.assert_close(loss.double(), sigreg(z.double(), a.double()), rtol=1e-5, atol=0)


def _gradient_on_a_rank(embeddings: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    mine = embeddings.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    loss = sigreg(mine, directions)
    return loss.detach(), torch.autograd.grad(loss, mine)[0]


@pytest.mark.distributed
def test_two_ranks_have_the_characteristic_function_of_the_whole_batch() -> None:
    z, a = some_embeddings(b=8), some_directions()
    loss, gradient = _gradient_on_a_rank(z, a)
    ranks = run_on_ranks(_gradient_on_a_rank, 2, z, a)
    for rank in ranks:
        torch.testing.assert_close(rank[0], loss)
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient)


def test_the_method_adds_distances_to_the_mean_of_global_views() -> None:
    torch.manual_seed(0)
    method = small_method("lejepa", "method.weight=0.25")
    assert isinstance(method, LeJEPA)
    views = batch(counts=((32, 3), (16, 2))).views
    with torch.no_grad():
        z = method.head(torch.cat([method.backbone(group.flatten(0, 1)) for group in views]))
    z = z.double().unflatten(0, (5, 8))
    config = method.config
    distances = [((z[:3].mean(dim=0) - view) ** 2).mean() for view in z]
    a = random_directions(z.shape[2], config.n_directions, generator=seeded(7)).double()
    expected = 0.25 * sigreg(z, a) + 0.75 * torch.stack(distances).mean()
    loss = method(Batch(views, torch.arange(8)), progress(7)).loss
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_directions_change_with_the_step() -> None:
    torch.manual_seed(0)
    method, found = small_method("lejepa").eval(), batch()
    one, again, other = (float(method(found, progress(step)).loss.detach()) for step in (1, 1, 2))
    assert one == again != other
