"""What must every recurrent module keep, with nothing to compare it with? Relations of a module with itself.

It does not say which network a module is, nor whether two are the same: `verdict` does. Open check.py first.
"""
