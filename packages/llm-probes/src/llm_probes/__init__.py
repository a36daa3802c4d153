"""Three instruments for language models: implicature, RLHF's price in diversity, and "removed or only wrapped?".

`llm_probes.implicature` (Ruis et al. 2023), `llm_probes.rlhf` and `llm_probes.diversity` (Kirk et al. 2024), and
`llm_probes.wrapped` (Jain et al. 2024) are pure functions over arrays and models; `llm_probes.cli` is the command line
over them. Nothing here loads torch on import.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
