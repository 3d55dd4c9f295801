"""A store that is not ours, and stores with a mistake in them, for the tests of the conformance kit."""
