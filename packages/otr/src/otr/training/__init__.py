"""Training learners on labelled data (extra `train`): configuration, arms, report."""
