"""`python -m kvengine.examples` lists the examples."""

from kvengine import examples

print(examples.__doc__)
