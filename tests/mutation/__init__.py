"""Mutation testing: the library broken on purpose in every small way, to see whether a test notices.

``mutants`` says how a module can be broken, ``campaign`` does it and runs the tests, ``survivors.toml`` justifies what
no test can notice. README.md has the command, the figures and the reasons.
"""
