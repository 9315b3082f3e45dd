"""The messenger without its I/O frameworks: rules, wire types, storage, settings.

`gateway` and `actors` import this package; it imports neither of them (only `asgi.py`
and `cli/`, which put the parts together, may). Owns the version number.
"""

__version__ = "0.1.0"
