"""Every way of computing a network: torch's module, cells, items, compiled, equations, and somebody's own class.

What comes out is not judged here. Open builtin.py first.
"""
