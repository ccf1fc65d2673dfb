"""The nouns of trueup, as frozen data: documents, evidence, observed state, actions, plan, errors.

Everything imports this package; this package imports nothing of ours and does no I/O.
"""
