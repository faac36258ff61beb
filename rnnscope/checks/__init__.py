"""What must every recurrent module keep, with nothing to compare it with? Relations of a module with itself.

It does not say which network a module is, nor whether two are the same: `verdict` does. Open check.py first, which has
the table of relations; case.py runs the module, and measures the bound.

calls.py: repeatable, stateless, inputs_kept, zero_state
items.py: batch_first, layout, item_isolation, permutation, batch_of_one, unbatched
steps.py: causality, last_state, chunked, stepwise
padding.py: packed, padding
precision.py, gradients.py (with slopes.py), copies.py: what their names say, gradient_reach and state_dict
supports.py: what torch's transforms make of a module
"""
