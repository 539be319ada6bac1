"""Numbers that a key of the configuration and a Python function have as their common default."""

# Neighbours tested for reciprocity, neighbours averaged over, and weight of the original distance, as the published
# test re-ranks.
RERANK_K1 = 50
RERANK_K2 = 15
RERANK_LAMBDA = 0.3
