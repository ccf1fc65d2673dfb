"""Plans, outcomes and rows as text, Markdown and JSON. Pure: nothing here prints, reads or asks the time.

Each reader builds data first and :mod:`reconciler.report.layout` blocks of it second; the command line
decides about width and colour, ``apply`` takes the bodies of pull requests from here.
"""
