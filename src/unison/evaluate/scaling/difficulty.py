"""How are solve rates spread over problems? A Beta law of them, which says what more tries bring.

If a problem is solved at rate p and p is Beta(alpha, beta), the right ones among n tries are
beta-binomial and coverage(k) = 1 - B(alpha, beta + k) / B(alpha, beta). Near p = 0 the density goes
like p^(alpha - 1), hence 1 - coverage ~ k^(-alpha): the power laws of repeated sampling come from
the hardest problems (Schaeffer et al. 2025, arXiv 2502.17578). Fitting the law to counts uses more
than the curve does, and extrapolates better where the law is right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import minimize
from scipy.special import digamma, expit, gammaln, log_expit, logit

from unison.evaluate.scaling.coverage import ScalingError, Tries
from unison.evaluate.scaling.verifiers import Types


@dataclass(frozen=True)
class BetaDifficulty:
    """Solve rates: 0 with probability ``never``, else Beta(alpha, beta).

    Attributes:
        alpha: Weight at the easy end; coverage approaches its limit like k^-alpha.
        beta: Weight at the hard end.
        never: Share of problems that no number of tries solves.
    """

    alpha: float
    beta: float
    never: float = 0.0

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0 and 0 <= self.never < 1):
            raise ScalingError(
                f"alpha and beta must be above 0 and never in [0, 1), got {self.alpha}, "
                f"{self.beta} and {self.never}."
            )

    def coverage(self, k: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """Return the probability that one of k tries is right."""
        # B(alpha, beta + k) / B(alpha, beta) is this product; log-gammas would cancel badly.
        factors = np.log1p(-self.alpha / (self.alpha + self.beta + np.arange(k.max())))
        return (1 - self.never) * -np.expm1(np.cumsum(factors)[k - 1])

    def types(self, nodes: int = 256) -> Types:
        """Return finitely many solve rates that stand for the law in any mean over it.

        Gauss-Jacobi nodes: means of polynomials in the rate up to degree ``2 * nodes - 1`` are
        exact, so everything about up to that many tries is.
        """
        rate, weight = _gauss_nodes(self.alpha, self.beta, nodes)
        prior = np.append(weight * (1 - self.never), self.never)
        return Types(prior, np.append(rate, 0.0))

    def log_likelihood(self, tries: Tries) -> float:
        """Return the log-probability of the counts, nats, without the binomial coefficients."""
        log_never = np.log(self.never) if self.never > 0 else -np.inf
        at = np.log([self.alpha, self.beta])
        return -_Counts.of(tries).loss(at, float(log_never), float(np.log1p(-self.never)))[0]


def fit_beta(tries: Tries) -> BetaDifficulty:
    """Return the Beta law of solve rates of largest likelihood.

    Rates without spread, of which a Beta law is only the limit, end at the largest alpha or beta
    that is looked at, 100 000.

    Raises:
        ScalingError: Every try is wrong or every one right, or no problem was tried twice.
    """
    counts = _Counts.of(tries)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = counts.loss(at, -np.inf, 0.0)
        return value, slopes[:2]

    alpha, beta = np.exp(_least(loss, [counts.start()], [_LOG_RANGE] * 2))
    return BetaDifficulty(float(alpha), float(beta))


def fit_beta_with_never(tries: Tries) -> BetaDifficulty:
    """Return the same with a share of problems that are never solved.

    A few tries of each problem cannot tell an unsolvable one from a very hard one: where the
    likelihood hardly rises above that of :func:`fit_beta`, the share is not known.

    Raises:
        ScalingError: Every try is wrong or every one right, or no problem was tried twice.
    """
    counts = _Counts.of(tries)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        return counts.loss(at[:2], float(log_expit(at[2])), float(log_expit(-at[2])))

    unsolved = min(max(counts.unsolved, _LEAST_SHARE), 1 - _LEAST_SHARE)
    starts = [np.append(counts.start(), logit(share * unsolved)) for share in (0.02, 0.5, 0.95)]
    found = _least(loss, starts, [*[_LOG_RANGE] * 2, _LOGIT_RANGE])
    return BetaDifficulty(*map(float, np.exp(found[:2])), never=float(expit(found[2])))


@dataclass(frozen=True, eq=False)
class _Counts:
    """Different pairs of tried and right, and how many problems show each."""

    tried: Int[np.ndarray, " G"]
    right: Int[np.ndarray, " G"]
    problems: Int[np.ndarray, " G"]

    @classmethod
    def of(cls, tries: Tries) -> "_Counts":
        right, tried = tries.right.sum(), tries.tried.sum()
        if right in (0, tried):
            raise ScalingError(
                f"No law of solve rates follows from {right} right of {tried} tries: "
                "some must be right and some wrong."
            )
        if tries.tried.max() < 2:
            raise ScalingError(
                "One try of each problem tells the mean solve rate and nothing of its spread; "
                "a law of solve rates needs at least 2 tries."
            )
        pairs = np.stack([tries.tried, tries.right], axis=1)
        kinds, problems = np.unique(pairs, axis=0, return_counts=True)
        return cls(kinds[:, 0], kinds[:, 1], problems)

    @property
    def unsolved(self) -> float:
        """The share of problems without a right try."""
        return float(self.problems[self.right == 0].sum() / self.problems.sum())

    def start(self) -> np.ndarray:
        """Return log alpha and log beta of two pseudo-counts at the mean solve rate."""
        share = (self.right * self.problems).sum() / (self.tried * self.problems).sum()
        return np.log([2 * share, 2 * (1 - share)])

    def loss(
        self, log_shape: np.ndarray, log_never: float, log_ever: float
    ) -> tuple[float, np.ndarray]:
        """Return minus the log-likelihood, and its slopes in log alpha, log beta, logit of never.

        Args:
            log_shape: Of alpha and beta.
            log_never: Of the share never solved.
            log_ever: Of the others' share.
        """
        alpha, beta = np.exp(log_shape)
        wrong = self.tried - self.right
        log_p = _log_beta_ratio(alpha, beta, self.right, wrong)
        by_sum = digamma(alpha + beta) - digamma(alpha + beta + self.tried)
        by_alpha = alpha * (digamma(alpha + self.right) - digamma(alpha) + by_sum)
        by_beta = beta * (digamma(beta + wrong) - digamma(beta) + by_sum)

        log_solvable = log_ever + log_p
        mixed = np.where(self.right == 0, np.logaddexp(log_never, log_solvable), log_solvable)
        solvable = np.exp(log_solvable - mixed)
        by_never = 1 - solvable - np.exp(log_never)  # posterior less prior share
        slopes = np.stack([solvable * by_alpha, solvable * by_beta, by_never])
        return -float(self.problems @ mixed), -(slopes @ self.problems)


def _gauss_nodes(
    alpha: float, beta: float, nodes: int
) -> tuple[Float[np.ndarray, " I"], Float[np.ndarray, " I"]]:
    """Return nodes and weights of a Beta law (Golub and Welsch 1969), whatever its parameters.

    They are eigenvalues, and squares of the first components of the eigenvectors, of the matrix of
    the three-term recurrence of Jacobi polynomials, here moved to [0, 1].
    """
    n = np.arange(1, nodes)
    both, twice = alpha + beta, 2 * n + alpha + beta
    middle = np.empty(nodes)
    middle[0] = alpha / both
    middle[1:] = 0.5 + (alpha - beta) * (both - 2) / (2 * (twice - 2) * twice)
    beside = n * (n + alpha - 1) * (n + beta - 1) / ((twice - 2) ** 2 * (twice - 1))
    beside[1:] *= (n[1:] + both - 2) / (twice[1:] - 3)  # 1 at n = 1, though it may read 0 / 0
    rate, vectors = eigh_tridiagonal(middle, np.sqrt(beside))
    return np.clip(rate, 0.0, 1.0), vectors[0] ** 2


def _log_beta_ratio(
    alpha: float, beta: float, right: Int[np.ndarray, " G"], wrong: Int[np.ndarray, " G"]
) -> Float[np.ndarray, " G"]:
    """Return log B(alpha + right, beta + wrong) - log B(alpha, beta)."""
    gained = gammaln(alpha + right) - gammaln(alpha) + gammaln(beta + wrong) - gammaln(beta)
    return gained + gammaln(alpha + beta) - gammaln(alpha + beta + right + wrong)


def _least(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]],
    starts: list[np.ndarray],
    bounds: list[tuple[float, float]],
) -> np.ndarray:
    options = {"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500}
    found = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        for start in starts
    ]
    return min(found, key=lambda run: run.fun).x


_LOG_RANGE = (float(np.log(1e-5)), float(np.log(1e5)))
_LOGIT_RANGE = (-20.0, 20.0)
_LEAST_SHARE = 0.01
