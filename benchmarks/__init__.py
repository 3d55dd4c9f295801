"""How fast mapitem is, beside what it is made of and beside its rivals: ``python -m benchmarks.run``.

``data`` makes keys and values, ``engines`` puts one face on every store, ``workloads`` says what is done to it,
``worker`` does it in a process of its own, ``run`` lets the workers take turns and writes JSON. ``targets``, ``report``
and ``plot`` only read that JSON. README.md explains the method.
"""
