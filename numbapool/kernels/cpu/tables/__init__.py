"""Tables that kernels read: a module each, whose names say where in a row, or in the head of a program, a value is.

A kernel gets an int64 array and names its entries, as in `program[G.PITCH]`; attributes of modules compile to constants. Who makes
such an array fills it in by the same names, so that the order in a module means nothing, but where its docstring says so.
"""
