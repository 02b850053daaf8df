"""ESCI as shipped with OpenSearch's own samples: real products, real queries, graded by people.

6,764 products and 150 queries with 6,678 judgments (exact 100, substitute 10, complement 1, irrelevant 0). The products
carry the ids of the queries that they were judged for (`query_id`): those are the labels, so no mapping may name it.
"""

from genrecall.data.fetch import PublicDataset, PublishedFile

_RAW = "https://raw.githubusercontent.com"

ESCI = PublicDataset(
    name="esci-us",
    files=(
        PublishedFile(
            name="ubi_ecommerce_products.json.gz",
            url=f"{_RAW}/opensearch-project/dashboards-search-relevance/main/server/sample_data/data/"
            "ubi_ecommerce_products.json.gz",
            sha256="cfd3b04e069033fa1561e2985260c83a3cb8344ee549754edfd0574a4aa14a49",
            size=3_128_785,
        ),
        PublishedFile(
            name="esci_us_judgments.json",
            url=f"{_RAW}/o19s/chorus-opensearch-edition/main/sample-data/esci_us_judgments.json",
            sha256="3981436d88e42ef283b5d805c7fa7ec68cd9657584fbc96b3bcd8d51ad1ba708",
            size=568_806,
        ),
    ),
    description={
        "name": "esci-us",
        "simulated": False,
        "items": {
            "path": "ubi_ecommerce_products.json.gz",
            "fields": {"id": "asin", "text": ["color", "bullet_points", "description"]},
        },
        "judgments": {"path": "esci_us_judgments.json"},
        "about": {
            "origin": "Amazon ESCI (US) as shipped by opensearch-project/dashboards-search-relevance and "
            "o19s/chorus-opensearch-edition",
            "licence": "Apache-2.0",
        },
    },
)
