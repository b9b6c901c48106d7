"""The comparison of the paper's user study: pairs of images, blind votes on them, and the shares of the votes."""
