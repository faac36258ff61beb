"""What a suite of tests gets: a fixture of pytest that asserts, and keeps the command line that shows a failure again.

It does not say what is compared or how. Open plugin.py first.
"""
