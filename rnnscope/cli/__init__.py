"""The command line: words become values, values become a result, a result becomes stdout and an exit code.

Nothing is computed here. Open commands.py first.
"""
