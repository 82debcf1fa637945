"""The knee, of the laws fitted to a staircase."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from loadstair.analysis.staircase.curve import Curve, KneeFit
from loadstair.analysis.staircase.full_batch import FullBatchFit, fit_full_batch
from loadstair.analysis.staircase.piecewise import PiecewiseFit, fit_piecewise
from loadstair.analysis.staircase.usl import FEW_LOADS, UslFit, fit_usl
from loadstair.analysis.statistics.estimate import Estimate, Finding

ALIKE_BIC = 4.0
"""A difference in BIC up to which one law follows the steps as well as another: between what Kass & Raftery (1995,
Bayes Factors) call positive evidence, 2, and strong, 6. With it intervals hold planted knees of all three laws in 91 to
99 % (bench/laws.py); those of the best law alone did so in 72 to 97 %."""
WORDS = {"usl": "the Universal Scalability Law", "full_batch": "a full batch", "piecewise": "a line with a bend"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Each None with too few valid loads."""

    usl: UslFit | None = None
    full_batch: FullBatchFit | None = None
    piecewise: PiecewiseFit | None = None

    def by_name(self) -> dict[str, KneeFit]:
        fits = {"usl": self.usl, "full_batch": self.full_batch, "piecewise": self.piecewise}
        return {name: fit for name, fit in fits.items() if fit is not None}

    def best(self) -> str | None:
        """The one that follows the steps best, by its BIC (Schwarz 1978); None without any."""
        fits = self.by_name()
        return min(fits, key=lambda name: fits[name].bic, default=None)

    def believed(self) -> dict[str, KneeFit]:
        """The best, and those that follow the steps as well. Where even the best is off the steps by more than their
        noise, the truth has another shape, and all are believed as much."""
        fits, name = self.by_name(), self.best()
        if name is None:
            return {}
        best = fits[name]
        return {name: best} | {
            other: fit for other, fit in fits.items() if best.misfit or fit.bic <= best.bic + ALIKE_BIC
        }

    def knee(self) -> Estimate:
        """That of the best law; its interval spans those of all that are believed, and where one of these has no knee
        inside the range, there is none."""
        fits = self.believed()
        if not fits:
            return Estimate.nothing(findings=(FEW_LOADS,))
        best = next(iter(fits.values()))
        for name, fit in fits.items():
            if fit.knee_load.value is None:
                agreed = all(other.knee_load.value is None for other in fits.values())
                said = () if agreed else _said(fits, f"{WORDS[name]} has no knee inside the range")
                return Estimate.nothing(fit.knee_load.n, (*fit.knee_load.findings, *said))
        return replace(
            best.knee_load,
            low=min(fit.knee_load.low for fit in fits.values() if fit.knee_load.low is not None),
            high=max(fit.knee_load.high for fit in fits.values() if fit.knee_load.high is not None),
            findings=_said(fits, "its interval spans those of all"),
        )


def fit_laws(curve: Curve) -> Fits:
    return Fits(usl=fit_usl(curve), full_batch=fit_full_batch(curve), piecewise=fit_piecewise(curve))


def _said(fits: Mapping[str, KneeFit], so: str) -> tuple[Finding, ...]:
    """Nothing where one law alone decides."""
    *others, last = (WORDS[name] for name in fits)
    if not others:
        return ()
    laws = f"{', '.join(others)} and {last}"
    if next(iter(fits.values())).misfit:
        return (Finding.info("knee.no_law", f"throughput is off {laws} by more than its noise: {so}"),)
    return (Finding.info("knee.laws_alike", f"throughput follows {laws} alike: {so}"),)
