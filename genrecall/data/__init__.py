"""Reading a dataset: `fetch` and `importing` bring it, `sources` locates its records, `rows` and `index_rows` stream
them (`tables`, `json_files`, `xml_files` and `judgment_lines` by format, over `text_files`), `columns` and `shops` say
which column holds what, `readers`, `judgments` and `events` check them and return tables (bad rows go to `rejects`),
`splits` divides the judgments, `summary` counts.
"""
