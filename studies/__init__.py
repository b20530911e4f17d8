"""Measurements that read the library and are read by nothing: not part of the package."""
