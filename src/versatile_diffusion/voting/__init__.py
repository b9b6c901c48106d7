"""The comparison of the paper's user study: pairs of pictures, blind votes, and their shares."""
