"""What is read from files and written to them: tensors, the networks in a checkpoint, recorded runs.

Nothing in a file is executed. Open checkpoints.py first.
"""
