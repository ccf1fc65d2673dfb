"""Forges that are servers. Their quirks stay in here; :mod:`reconciler.bootstrap` connects them."""
