"""From finished runs to one page for people: tables, pictures, methods, and where every number comes from.

`runs` reads; `pretraining`, `scoring`, `comparing`, `methods` and `document` say what is to be shown; `figures`
draws it, as `drawing` has it look; `page` and `text` set it as HTML and Markdown; `writing` puts it on disk.
matplotlib is imported inside functions only.
"""
