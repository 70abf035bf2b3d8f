"""Two adapters together, against dense arithmetic in float64."""

import pytest
import torch
from torch import nn
from trap2.evaluation.pairs import BETAS, PAIR_SCALE, combination, frobenius_norm, mix_pair
from trap2.updates.delta import LowRank, UpdateError


def update(seed: int, rank: int = 2) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{n}.weight": LowRank(
            torch.randn(d, rank, generator=generator), torch.randn(rank, 4, generator=generator)
        )
        for n, d in ((0, 3), (1, 5))
    }


def exact(part: LowRank) -> torch.Tensor:
    return part.B.double() @ part.A.double()


def test_a_combination_is_that_of_the_matrices():
    one, two = update(0), update(1, rank=3)
    mixed = combination(one, two, 0.25, -1.5)
    for layer, part in mixed.items():
        wanted = 0.25 * exact(one[layer]) - 1.5 * exact(two[layer])
        torch.testing.assert_close(exact(part), wanted, rtol=0, atol=1e-6)


def test_the_norm_is_that_of_all_matrices_together():
    one = update(2)
    wanted = torch.cat([exact(part).flatten() for part in one.values()]).norm()
    assert frobenius_norm(one) == pytest.approx(float(wanted), rel=1e-9)


def test_a_path_goes_from_the_protected_to_the_unprotected_update_and_leaves_the_base():
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 5)])
    base = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = update(3), update(4)
    seen: list[dict[str, torch.Tensor]] = []

    def measure() -> int:
        seen.append({n: v.double() - base[n].double() for n, v in model.state_dict().items()})
        return len(seen)

    found = mix_pair(model, one, two, measure)
    assert [point["beta"] for point in found["path"]] == list(BETAS)
    assert [point["score"] for point in found["path"]] == list(range(1, len(BETAS) + 1))
    for layer in one:
        a, b = exact(one[layer]), exact(two[layer])
        for beta, state in zip(BETAS, seen, strict=False):
            torch.testing.assert_close(state[layer], a + beta * (b - a), rtol=0, atol=1e-5)
        torch.testing.assert_close(seen[-1][layer], PAIR_SCALE * (a + b), rtol=0, atol=1e-5)
    assert all(torch.equal(value, base[name]) for name, value in model.state_dict().items())
    squares = sum(float((exact(two[n]) - exact(one[n])).square().sum()) for n in one)
    assert found["distance"] == pytest.approx(squares**0.5, rel=1e-6)


def test_adapters_of_different_layers_do_not_mix():
    with pytest.raises(UpdateError, match=r"1\.weight is in one of the two"):
        combination(update(0), {"0.weight": update(1)["0.weight"]}, 1, 1)
