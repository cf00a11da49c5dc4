"""The five measures of coherence: what is kept of super-steps for them, their formulas, and what is told of them."""
