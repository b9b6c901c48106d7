"""Serving: an engine that queues and batches requests, and an HTTP server on top of it.

The engine (`requests`, `computing`, `workers`, `jobs`, `engine`) knows nothing of HTTP; any other front can use it.
"""
