"""Tables with a row for each image, as programs write them: what the text is, which column is what, and where the
pictures are. `layout_csv.py` makes a listing of it.
"""
