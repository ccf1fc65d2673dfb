"""What to do, worked out from data alone: no I/O, no clock, no randomness.

:func:`reconciler.planning.plan.make_plan` asks :mod:`reconciler.planning.subjects` about each moving subject,
and :mod:`reconciler.planning.limits` about all of them together.
"""
