"""Whether a count is plausible for a given probability."""

import math


def is_plausible(seen: int, count: int, share: float) -> bool:
    """Whether `seen` of `count` fits this share: a two-sided test at the level of 1e-6."""

    def probability(of: int) -> float:
        return math.exp(
            math.lgamma(count + 1)
            - math.lgamma(of + 1)
            - math.lgamma(count - of + 1)
            + of * math.log(share)
            + (count - of) * math.log1p(-share)
        )

    below = sum(map(probability, range(seen + 1)))
    above = sum(map(probability, range(seen, count + 1)))
    return min(below, above) > 0.5e-6
