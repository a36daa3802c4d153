"""Labellers: what turns demonstrations and unlabelled episodes into rewards.

    fitted = make_labeller(OTRConfig()).fit(demos, data)
    labels = fitted.label(data)             # or of any of its episodes: labels of an episode depend on it alone
    labels.rewards                          # (N,), before the scale of the dataset

`otr.labels.labelling.label` does this in chunks, with the scale, and writes a dataset. Another method joins by
`add_labeller`.
"""

from otr.labellers.interface import Fitted, Labeller, Labels
from otr.labellers.registry import LABELLERS, add_labeller, config_class, make_labeller

__all__ = ["LABELLERS", "Fitted", "Labeller", "Labels", "add_labeller", "config_class", "make_labeller"]
