"""The proof of what the file promises: a simulated disk that crashes and fails, and what is held against it.

``simdisk`` is the disk, and ``workloads`` drives stores on it beside a plain list of what they have to hold. ``checks``
crashes them everywhere, ``faults`` fails and interrupts them. ``campaign`` does all that for as long as it is told, and
``safeguards`` shows that it sees what is missing.
"""
