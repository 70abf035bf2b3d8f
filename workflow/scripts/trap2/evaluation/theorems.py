"""Theorems A.2 and A.4 in numbers: their constants, their bounds, and what is measured.

A.2 (down-scaling): with g(u) = L(W0 + u·ΔW), μ ≤ g″ on [s, 1] and |g′(1)| ≤ ε,
g(s) − g(1) ≥ μ/2·(1 − s)² − ε·(1 − s).

A.4 (a pair's average): with V = ΔW_τ − ΔW_κ, the weighted directional curvature μ_κ(V) and
‖∇L_κ(ΔW_κ)‖ ≤ ε, L_κ(average) − L_κ(ΔW_κ) ≥ μ_κ(V)/8·‖V‖² − ε/2·‖V‖.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

DOWN_SCALES = (0.95, 0.9, 0.8, 0.5, 1 / 3, 0.25, 0.2)
"""Scales at which A.2 is read: near the nominal one, and those of averages of 2 to 5 updates."""


CURVATURE_GRID = tuple(
    sorted({*DOWN_SCALES, *(k / 100 for k in range(90, 101)), *(k / 20 for k in range(4, 18))})
)
"""Where g″ is evaluated: finest where TRAP² bends the loss most."""


QUADRATURE_NODES = 12


@dataclass(frozen=True)
class DownScaling:
    """Theorem A.2 for one update and one scale.

    Attributes:
        s: the scale.
        mu: the smallest g″ on the grid over [s, 1]; between the points it may be smaller.
        epsilon: |g′(1)|.
        bound: μ/2·(1 − s)² − ε·(1 − s); the inequality needs no sign of μ, the theorem takes μ ≥ 0.
        measured: g(s) − g(1).
    """

    s: float
    mu: float
    epsilon: float
    bound: float
    measured: float

    @property
    def premise(self) -> bool:
        """Whether g is convex on the grid over [s, 1]; the theorem assumes it (μ ≥ 0)."""
        return self.mu >= 0


def down_scaling(
    loss: Mapping[float, float], curvature: Mapping[float, float], slope_at_one: float
) -> list[DownScaling]:
    """Theorem A.2 at each of :data:`DOWN_SCALES`.

    Args:
        loss: g by u, on :data:`CURVATURE_GRID`.
        curvature: g″ by u, on the same grid.
        slope_at_one: g′(1).
    """
    epsilon = abs(slope_at_one)
    found = []
    for s in DOWN_SCALES:
        mu = min(value for u, value in curvature.items() if u >= s)
        bound = mu / 2 * (1 - s) ** 2 - epsilon * (1 - s)
        found.append(DownScaling(s, mu, epsilon, bound, loss[s] - loss[1.0]))
    return found


@dataclass(frozen=True)
class CrossDegradation:
    """Theorem A.4 for one task of one pair.

    Attributes:
        distance: ‖V‖_F.
        epsilon: ‖∇L_κ(ΔW_κ)‖_F.
        slope: ⟨∇L_κ(ΔW_κ), V/2⟩, which the theorem bounds by −ε/2·‖V‖ from below.
        mu_hvp: μ_κ(V) from Hessian–vector products, by numerical integration.
        mu_hvp_error: how much it changes when half as many points are taken.
        mu_profile: μ_κ(V) from the losses at both ends and the slope (Taylor's theorem).
        bound: μ_κ(V)/8·‖V‖² − ε/2·‖V‖ with the latter.
        measured: L_κ(average) − L_κ(ΔW_κ).
    """

    distance: float
    epsilon: float
    slope: float
    mu_hvp: float
    mu_hvp_error: float
    mu_profile: float
    bound: float
    measured: float

    @property
    def guaranteed(self) -> bool:
        """Whether the theorem guarantees a loss: μ > 0 and ‖V‖ > 4ε/μ."""
        return self.bound > 0


def quadrature(nodes: int = QUADRATURE_NODES) -> tuple[np.ndarray, np.ndarray]:
    """Nodes γ in (0, 1) and weights of ∫ (1 − γ)·f(γ) dγ, densest near γ = 0.

    Gauss–Legendre in t with γ = t²: there a TRAP² adapter's curvature changes fastest.
    """
    points, weights = np.polynomial.legendre.leggauss(nodes)
    t, dt = (points + 1) / 2, weights / 2
    return t**2, dt * 2 * t * (1 - t**2)


def weighted_curvature(second_derivative: Callable[[float], float]) -> tuple[float, float]:
    """∫ (1 − γ)·φ″(γ) dγ over [0, 1], and its change against half as many nodes.

    Cross-entropy of sharp logits bends in many narrow places, so that the change can be as large
    as the integral: then its value says nothing, and Taylor's theorem alone does.
    """
    coarse, fine = (
        sum(
            weight * second_derivative(float(node))
            for node, weight in zip(*quadrature(nodes), strict=True)
        )
        for nodes in (QUADRATURE_NODES // 2, QUADRATURE_NODES)
    )
    return float(fine), float(abs(fine - coarse))


def cross_degradation(
    distance: float,
    epsilon: float,
    slope: float,
    integral: tuple[float, float],
    loss_at_adapter: float,
    loss_at_average: float,
) -> CrossDegradation:
    """Theorem A.4 from what was measured on φ(γ) = L_κ(ΔW_κ + γ·V/2).

    Args:
        distance: ‖V‖_F, above 0.
        epsilon: ‖∇L_κ(ΔW_κ)‖_F.
        slope: φ′(0).
        integral: ∫ (1 − γ)·φ″ dγ with its error (:func:`weighted_curvature`).
        loss_at_adapter: φ(0).
        loss_at_average: φ(1).
    """
    measured = loss_at_average - loss_at_adapter
    # ∫ (1 − γ)·φ″ dγ = μ‖V‖²/8 (proof of Theorem A.4).
    mu_hvp, error = (8 * value / distance**2 for value in integral)
    mu_profile = 8 * (measured - slope) / distance**2
    bound = mu_profile / 8 * distance**2 - epsilon / 2 * distance
    return CrossDegradation(distance, epsilon, slope, mu_hvp, error, mu_profile, bound, measured)
