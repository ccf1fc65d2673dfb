"""The trueup reconciler: Git says what should run, this package makes it so.

Start at :mod:`reconciler.loop`: one tick, on one screen.
"""

__version__ = "0.1.0"
