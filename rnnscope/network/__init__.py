"""The network on paper and in tensors: dims and shapes, what they cost, the equations, weights, and StackedCells.

How it is run by a subject is not known here. Open shapes.py first.
"""
