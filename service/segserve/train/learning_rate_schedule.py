"""Learning-rate schedules: linear warm-up, then a cosine down to zero."""

import math

# Promptable models: a tenth of the steps, but no longer than this.
MAX_PROMPTABLE_WARM_UP_STEPS = 200
PROMPTABLE_DECAY_START = 0.6  # share of the steps after which the cosine begins
UNET_WARM_UP_SHARE = 0.05  # of the steps


def promptable_learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate at `step` of `steps`: warm-up, then `peak`, then a cosine to zero over the last 40%."""
    warm_up = max(1, min(MAX_PROMPTABLE_WARM_UP_STEPS, steps // 10))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    decayed = max(0.0, (step - PROMPTABLE_DECAY_START * steps) / ((1 - PROMPTABLE_DECAY_START) * steps))
    return peak * 0.5 * (1 + math.cos(math.pi * min(decayed, 1.0)))


def unet_learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate at `step` of `steps`: warm-up, then a cosine to zero over all other steps."""
    warm_up = max(1, round(UNET_WARM_UP_SHARE * steps))
    decayed = max(0, step - warm_up) / max(1, steps - warm_up)
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * decayed))
