VERSION = "0.1.0"
"""The one place where the version stands."""
