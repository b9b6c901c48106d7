"""The web studio: the tasks of the paper in a browser, on the engine and the HTTP interface of `serving`.

`tasks` says what there is to fill in and what is asked of the engine then, `history` keeps results; neither knows
gradio.
"""
