"""Tools for agents, over the Model Context Protocol: a face of the engine that `serving` offers over HTTP."""
