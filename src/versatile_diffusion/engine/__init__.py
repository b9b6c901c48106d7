"""The engine: it queues requests, computes those of one kind as a batch, and knows nothing of HTTP."""
