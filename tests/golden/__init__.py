"""Logs of every released version of the format, each beside what it holds as JSON; see ``make``."""
