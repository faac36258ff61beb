"""The one idea: two sides, one problem, and whether they are the same network. Bounds, figures, place, reasons, page.

Open compare.py first, then bounds.py. What was found stands in facts.py, and what is said of it in page.py.
"""
