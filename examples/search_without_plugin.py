"""BM25 and the `generative` clause in one query, on a cluster that has no plugin of ours.

    python -m examples.search_without_plugin "red running shoes" --index products

The clause is written as for the plugin; `Composer` asks the inference server and puts plain term queries in its place.
docs/without_plugin.md says what differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from opensearchpy import OpenSearch

from genrecall.client import Client
from genrecall.errors import UserError
from index_mappings.compose.composer import Composer


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="the words of the search")
    parser.add_argument("--index", default="products", help="index or alias")
    parser.add_argument("--url", default="http://127.0.0.1:9200", help="of OpenSearch")
    parser.add_argument("--endpoint", default="127.0.0.1:50051", help="of the inference server")
    options = parser.parse_args(arguments)

    clause = {
        "query_text": options.text,
        "k": 20,
        "on_failure": "match_none",  # without the server, BM25 is left
        "boost": 50,  # probabilities are small beside BM25's scores
        "_name": "generative",
    }
    body = {
        "query": {"bool": {"should": [{"match": {"title": options.text}}, {"generative": {"sid": clause}}]}},
        "_source": ["title"],
    }
    client = OpenSearch(options.url)
    with Client(options.endpoint) as server:
        composer = Composer(client, server)
        answer = client.search(index=options.index, body=composer.compose(body, options.index))
    for kind, count in composer.failures.items():
        print(f"no SIDs ({kind}, {count}): these hits are BM25's alone", file=sys.stderr)
    for hit in answer["hits"]["hits"]:
        by = "generative" if "generative" in hit.get("matched_queries", []) else "BM25 only"
        print(f"{hit['_score']:7.3f}  {by:10}  {hit['_source']['title']}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
