"""What measures a model of postcards: its four flows, its stages, and what else can be made with it."""
