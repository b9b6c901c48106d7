"""The data set of emoji: things by several hands, in several treatments, with captions, made from packages of npm."""
