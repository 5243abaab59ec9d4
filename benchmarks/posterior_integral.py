"""The integral of the method posterior beside a plain one: milliseconds, their ratio, and how far apart they are.

    python benchmarks/posterior_integral.py

Both in this process, in turn, on the same drawn scores with errors in common: two known answers, so many unfinished
traces. The plain one sums over a dense grid of both answers' effects and of the shares, trace by trace.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.stage import command
from deepprune.judges.calibration import Noise
from deepprune.prune import shares
from deepprune.prune.shares import Judged


@dataclasses.dataclass
class IntegralSettings:
    unfinished: list[int] = setting([15, 63, 127], "unfinished traces", at_least=1)
    draws: int = setting(5, "drawn questions of each size", at_least=1)


@command
def main() -> None:
    given = config.parse(IntegralSettings, None, __doc__)
    print("| unfinished | plain, ms | ours, ms | ratio | largest difference |\n|---|---|---|---|---|")
    for unfinished in given.unfinished:
        rows = []
        for seed in range(given.draws):
            noise = Noise(0.91, 0.5)
            judged = drawn(seed, unfinished, noise, 2)
            ours, fast = timed(lambda j=judged, n=noise: shares.lead(j, n).probability)
            plainly, slow = timed(lambda j=judged, n=noise: plain(j, n)[shares.lead(j, n).leader or 0])
            if ours > 0.0:  # one of the two leads
                rows.append((slow, fast, slow / fast, abs(ours - plainly)))
        slow, fast, ratio = np.median(rows, axis=0)[:3] * [1e3, 1e3, 1.0]
        print(
            f"| {unfinished} | {slow:.0f} | {fast:.1f} | {ratio:.0f} | {max(row[3] for row in rows):.4f} |", flush=True
        )


def timed(of: Callable[[], float]) -> tuple[float, float]:
    """What it returns, and seconds."""
    started = time.perf_counter()
    return of(), time.perf_counter() - started


def drawn(seed: int, unfinished: int, noise: Noise, known: int) -> Judged:
    """A question of so many known answers, one finished trace of each compared, with scores of such a judge."""
    rng = np.random.default_rng(seed)
    ended = rng.choice(known + 1, unfinished, p=rng.dirichlet(np.full(known + 1, 1.0)))
    scale = np.sqrt(noise.gap)
    ratios = (
        np.where(ended[:, None] == np.arange(known), noise.gap / 2, -noise.gap / 2)
        + scale * np.sqrt(noise.question) * rng.normal()
        + scale * np.sqrt(noise.trace / 2) * (rng.normal(size=(unfinished, 1)) + rng.normal(size=known))
        + scale * np.sqrt(noise.pair) * rng.normal(size=(unfinished, known))
    )
    effects = shares.effects(range(known), [], known, noise)
    return Judged(rng.integers(1, 4, known).astype(float), 0, np.ones(known), ratios, *effects)


def plain(judged: Judged, noise: Noise, effects: int = 71, nodes: int = 16, common: int = 20) -> tuple[float, float]:
    """P(theta_1 > theta_2), P(theta_1 < theta_2) of the two known answers, by a dense grid of shares and effects.

    nodes: of the first one's share of the two, below a half and above it.
    """
    covariance = noise.gap * (np.diag(noise.pair / judged.members) + noise.trace / 2)
    precision, known = np.linalg.inv(covariance), np.linalg.inv(judged.covariance)
    (half, half_weights), (s, s_weights) = (_legendre(count) for count in (nodes, common))
    x, x_weights = np.r_[half, 1.0 + half] / 2.0, np.r_[half_weights, half_weights]
    theta = np.stack(np.broadcast_arrays(x[:, None] * s, (1 - x)[:, None] * s, 1 - s), axis=-1)  # (x, s, 3)
    prior = np.log(x_weights)[:, None] + np.log(s_weights * s) + np.log1p(-s) * (1 + judged.without)
    prior = prior + np.log(theta[..., :2]) @ judged.votes
    ends = np.linalg.eigh(judged.covariance)
    lines = [np.linspace(-5, 5, effects) * np.sqrt(variance) for variance in ends[0]]
    means = noise.gap * (np.eye(3, 2) - 0.5)  # of the scores, if a trace ends in the first, the second, or in neither
    logs = []
    for one in lines[0]:
        for other in lines[1]:
            effect = judged.mean + ends[1] @ [one, other]
            away = judged.ratios[:, None] - effect - means
            likelihood = np.exp(-0.5 * np.einsum("uci,ij,ucj->uc", away, precision, away))
            density = -0.5 * (effect - judged.mean) @ known @ (effect - judged.mean)
            logs.append(
                density + prior + np.log(likelihood @ theta.reshape(-1, 3).T + 1e-300).sum(0).reshape(prior.shape)
            )
    mass = np.exp(np.asarray(logs) - np.max(logs)).sum(axis=(0, 2))
    return float(mass[x > 0.5].sum() / mass.sum()), float(mass[x < 0.5].sum() / mass.sum())


def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


if __name__ == "__main__":
    main()
