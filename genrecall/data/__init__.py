"""Reading a dataset: `fetch` brings it, `sources` locates its records, `rows` and `index_rows` stream them, `readers`
and `events` check them and return tables (bad rows go to `rejects`), `splits` divides the judgments, `summary` counts.
"""
