"""Labellers: what turns demonstrations and unlabelled episodes into rewards.

    fitted = fit_labeller(OTRConfig(), demos, data)
    labels = fitted.label(data)             # or of any of its episodes: labels of an episode depend on it alone
    labels.rewards                          # (N,), before the scale of the dataset

`otr.labels.labelling.label` does this in chunks, with the scale, and writes a dataset. Another method joins by
`add_labeller`.
"""
